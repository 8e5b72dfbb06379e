"""What figures are made of: the audit log, growth, and the Prometheus that is played."""

import json
from pathlib import Path
from typing import Any

import pytest

from dopd.telemetry import queries
from dopd.telemetry.clock import CLOCK_QUERY
from e2e.scale.audit import Audit, percentile
from e2e.scale.measure import Figures
from e2e.scale.series import Played, times_between
from e2e.scale.sizes import exponent, manifest, names
from e2e.scale.table import table

PLAYED = Played(names(3, 2), 2)


def line(verb: str, resource: str = "pods", user: str = "measured", **more: Any) -> str:
    event = {
        "user": {"username": user},
        "stage": "ResponseComplete",
        "verb": verb,
        "objectRef": {"resource": resource},
        "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z",
        "stageTimestamp": "2026-01-01T00:00:00.250000Z",
        **more,
    }
    return json.dumps(event) + "\n"


def test_calls_of_one_user_are_counted_from_where_the_log_was_read_to(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(
        line("list") + line("watch") + line("patch") + line("patch", "leases") + line("create", user="somebody")
    )
    audit = Audit(log, "measured")
    calls = audit.since_last()
    assert (dict(calls.reads), dict(calls.writes), calls.apply_seconds) == ({"pods/list": 1}, {"pods/patch": 1}, [0.25])
    with log.open("a") as more:
        more.write(line("delete") + line("get")[:20])
    calls = audit.since_last()
    assert (dict(calls.reads), dict(calls.writes)) == ({}, {"pods/delete": 1}), "half a line is not read yet"
    with log.open("a") as more:
        more.write(line("get")[20:])
    assert dict(audit.since_last().reads) == {"pods/get": 1}


def test_a_started_call_is_not_counted_twice(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(line("get", stage="ResponseStarted") + line("get"))
    assert Audit(log, "measured").since_last().reads.total() == 1


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)])
def test_percentile(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected
    assert percentile([], share) == 0.0


def test_growth_is_told_by_its_exponent_where_there_is_any() -> None:
    assert exponent([10, 100, 1000], [2, 20, 200]) == pytest.approx(1.0)
    assert exponent([10, 100, 1000], [1, 100, 10000]) == pytest.approx(2.0)
    assert exponent([10, 100], [0, 5]) is None
    assert exponent([10], [5]) is None


def test_a_table_has_a_column_for_each_size_and_the_exponent() -> None:
    found = [Figures(size, 8 * size, 15, memory_mib=100.0 * size) for size in (1, 10)]
    lines = table(found).splitlines()
    assert lines[0] == "| | 1 resources, 8 workers | 10 resources, 80 workers | exponent |"
    assert "| memory, MiB | 100 | 1e+03 | 1.00 |" in lines
    assert "| API writes in a period | 0 | 0 |  |" in lines


def result(query: str, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = PLAYED.answer(query, [1000.0], **options)["data"]["result"]
    return found


def test_each_resource_has_a_series_of_each_signal() -> None:
    for signal in (queries.ARRIVALS, queries.ARRIVED, queries.PROMPTS, queries.ANSWER_TOKENS, queries.GATEWAYS):
        keys = [(one["metric"]["namespace"], one["metric"][queries.INSTANCE]) for one in result(signal.promql("60s"))]
        assert keys == list(PLAYED.resources), signal.name
    assert not result(queries.FIRST_COUNTS.promql("60s")), "no gateway is new"
    assert not result(queries.any_recorded("60s"))


def test_buckets_and_pods_have_their_labels() -> None:
    bounds = {one["metric"]["le"] for one in result(queries.PROMPT_LENGTHS.promql("60s"))}
    assert "+Inf" in bounds
    pods = result(queries.scrapes("180s"))
    assert len({one["metric"]["instance"] for one in pods}) == len(pods) == 3 * (1 + 2 + 2)
    assert {one["metric"][queries.POOL] for one in result(queries.newest_samples())} == {"router", "prefill", "decode"}


def test_the_clock_and_the_newest_samples_are_of_the_time_that_is_asked_for() -> None:
    assert result(CLOCK_QUERY)[0]["value"] == [1000.0, "1000.000"]
    assert {one["value"][1] for one in result(queries.newest_samples())} == {"1000.000"}


def test_ranges_have_all_their_times_even_one() -> None:
    assert times_between("10", "20", "5000ms") == [10.0, 15.0, 20.0]
    assert times_between("10", "10", "5s") == [10.0]
    assert result(queries.ARRIVALS.promql("60s"), ranged=True)[0]["values"] == [[1000.0, "1"]]


def test_resources_are_spread_over_namespaces() -> None:
    assert names(3, 2) == [("team-000", "m-0000"), ("team-001", "m-0001"), ("team-000", "m-0002")]
    scaling = manifest("m", 4, "http://p:9", 15, 2)["spec"]["scaling"]
    assert scaling["prefill"] == scaling["decode"] == {"min": 4, "max": 4}
