"""`dopd counterfactual` against a real Prometheus: what it says of a resource, and what it does where it can not."""

import io
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
from prometheus_client import REGISTRY

from dopd.cli import counterfactual
from dopd.cli.main import main
from dopd.cluster import kinds
from dopd.replay.profiles import load_profile
from dopd_forecasting import ProcessExecutor

from ..telemetry.real_prometheus import serving
from ..telemetry.world import METRICS

pytestmark = pytest.mark.timeout(120)
PROFILE = "llama-3.1-8b-h100"
RATE, GPUS, HOURS = 0.5, 3.0, 1.0
LENGTHS = {"sglang:prompt_tokens_histogram_sum": 2000.0, "sglang:uncached_prompt_tokens_histogram_sum": 2000.0}
LABELS = {"namespace": "shop", "inference": "llama"}


def samples(now_seconds: float) -> Iterator[Any]:
    """What gateway, engines and operator told for an hour of a steady load."""
    times = [-15.0 * k for k in range(int(HOURS * 240))][::-1]
    for pool, metrics in METRICS.items():
        carried = {
            "namespace": "shop",
            "pod": f"llama-{pool}-abc",
            "instance": f"{pool}:1",
            "dopd_dev_instance": "llama",
            "dopd_dev_pool": pool,
        }
        yield "up", carried, [(now_seconds + at, 1.0) for at in times]
        for (metric, bound), share in metrics.items():
            labels = carried | ({"le": bound} if bound else {})
            grown = LENGTHS.get(metric, share) * RATE
            yield metric, labels, [(now_seconds + at, grown * (at + HOURS * 3600)) for at in times]
    for pod in ("dopd-a", "dopd-b"):  # a fail-over: for some minutes two instances tell the same
        some = [at for at in times if (at < -1500.0) == (pod == "dopd-a") or -1800.0 < at < -1500.0]
        yield "dopd_gpus", {**LABELS, "role": "prefill", "pod": pod}, [(now_seconds + at, GPUS) for at in some]


class Cluster:
    """One resource with its profile."""

    def __init__(self, url: str) -> None:
        bounds = {"min": 1, "max": 6}
        spec = {
            "model": "m",
            "engine": {"image": "sglang:v0.5.23"},
            "prefill": {"gpus": 1},
            "decode": {"gpus": 1},
            "router": {"image": "smg:1.13.0"},
            "scaling": {"prefill": bounds, "decode": bounds, "profileRef": {"name": PROFILE}},
            "telemetry": {"prometheusURL": url},
        }
        self.resource = {"metadata": {"namespace": "shop", "name": "llama"}, "spec": spec}

    async def list(self, kind: kinds.Kind, namespace: str | None) -> list[dict[str, Any]]:
        return [self.resource] if namespace in (None, "shop") else []

    async def get(self, kind: kinds.Kind, namespace: str, name: str) -> dict[str, Any]:
        assert (kind, namespace, name) == (kinds.PROFILE, "shop", PROFILE)
        return {"spec": load_profile(PROFILE).model_dump(mode="json", by_alias=True, exclude_none=True)}

    async def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving("prometheus", tmp_path_factory.mktemp("prometheus"), samples(time.time())) as found:
        yield found


@pytest.fixture
def cluster(url: str, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(url)

    async def connect(_: Any) -> Cluster:
        return made

    monkeypatch.setattr(counterfactual, "connect", connect)
    return made


def once(*arguments: str) -> tuple[int, str, str]:
    said, complaints = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complaints):
        code = main(["counterfactual", "--once", *arguments])
    return code, said.getvalue(), complaints.getvalue()


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"dopd_counterfactual_{name}", {**LABELS, **labels})


def test_it_tells_what_was_used_and_what_others_would_have_used(cluster: Cluster):
    code, said, complaints = once("--since", "20m", "--most-requests", "325")
    assert code == 0, complaints
    head, *rows = said.splitlines()
    assert head.split()[:6] == ["NAMESPACE", "NAME", "HOURS", "REQUESTS", "POLICY", "GPU-HOURS"]
    policies = ("used", "dopd", "static", "hpa", "hindsight")
    assert [next(word for word in row.split() if word in policies) for row in rows] == list(policies)
    seconds = value("window_seconds")
    assert seconds is not None
    assert 480 <= seconds <= 660, "cut to the newest 325 requests, at one in two seconds"
    assert value("gpu_hours", policy="used") == pytest.approx(GPUS * seconds / 3600, rel=0.02), "counted once"
    for policy in policies[1:]:
        hours = value("gpu_hours", policy=policy)
        assert hours == pytest.approx(2 * seconds / 3600, rel=0.05), "one worker of each role carries it"
        assert (value("attainment", policy=policy) or 0) > 0.99
    assert value("requests") == pytest.approx(RATE * seconds, rel=0.1)


class Hasty(ProcessExecutor):
    """Gives up after a hundredth of the time that it is told, in which no process has even begun."""

    def __init__(self, *, longest_seconds: float, **others: Any) -> None:
        super().__init__(longest_seconds=longest_seconds / 100, **others)


def test_what_takes_too_long_is_given_up_and_nothing_old_stays(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(counterfactual, "ProcessExecutor", Hasty)
    before = value("failures_total") or 0
    code, said, _ = once("--since", "20m", "--most-seconds", "1")
    assert code == 1
    assert len(said.splitlines()) == 1, "the heads alone"
    assert "the process of replays took longer than 0.01 s" in caplog.text
    assert value("failures_total") == before + 1
    assert value("window_seconds") is None
    assert value("gpu_hours", policy="dopd") is None


def test_a_resource_without_a_profile_is_told_with_the_fix(cluster: Cluster, caplog: pytest.LogCaptureFixture):
    del cluster.resource["spec"]["scaling"]  # type: ignore[attr-defined]
    assert once()[0] == 1
    assert "shop/llama: DisaggregatedInference shop/llama as it is: spec.scaling is absent" in caplog.text


def test_another_namespace_has_nothing_to_tell(cluster: Cluster):
    assert once("-n", "other")[:1] == (0,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--since", "5m"), "--since 5m: expected 10m to 720h"),
        (("--most-mib", "1"), "--most-mib 1: expected a number from 256 to 65536"),
        (("--most-requests", "x"), "--most-requests x: expected a number from 100 to 5e+06"),
        (("--every", "hourly"), "--every hourly: expected a length of time such as 6h, 90m or 2h30m"),
        (("--namespace", "A"), "--namespace A: expected a name"),
    ],
)
def test_a_wrong_option_is_one_line(arguments: tuple[str, ...], words: str):
    code, _, complaints = once(*arguments)
    assert code == 2
    assert words in complaints
    assert len(complaints.splitlines()) == 1
