"""A batch beside online requests in the replay."""

from dataclasses import replace

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.replay import batch
from dopd.replay.batch_cluster import BatchCluster
from dopd.replay.cluster import Cluster
from dopd.replay.telemetry import Telemetry
from dopd.replay.trace import Trace
from dopd.replay.workers import ON_TIME_FIRST, Settings

NOW = Settings(startup_seconds=dict.fromkeys(Role, 60.0), order=ON_TIME_FIRST)


def trace(arrivals, inputs, outputs, of_batch=None):
    count = len(arrivals)
    sizes = (np.broadcast_to(np.array(each), (count,)).astype(np.int64) for each in (inputs, outputs))
    told = None if of_batch is None else np.array(of_batch)
    return Trace("t", np.array(arrivals, dtype=float), *sizes, "requests", batch=told)


def cluster(model, arrivals, inputs, outputs, of_batch, slot_share=0.5):
    made = BatchCluster(model, trace(arrivals, inputs, outputs, of_batch), 1, 1, NOW, slot_share)
    made.run()
    return made


def test_an_online_prompt_waits_for_one_short_pass_of_a_long_batch_prompt(model):
    served = cluster(model, [0.0, 0.05], [60_000, 500], 2, [True, False])
    alone = Cluster(model, trace([0.05], 500, 2), 1, 1, NOW)
    alone.run()
    assert served.ttft_seconds[1] <= alone.ttft_seconds[0] + 0.1 * NOW.objectives.ttft_seconds + 1e-9


def test_the_gateway_lets_in_a_share_of_the_slots(model):
    few = replace(model, max_running_requests=8)
    made = BatchCluster(few, trace([0.0] * 20, 10, 200, [True] * 19 + [False]), 1, 1, NOW, 0.125)
    most = 0

    def look():
        nonlocal most
        most = max(most, made.workers[Role.DECODE][0].assigned)
        return 0.05

    made.run(look)
    assert most == 3, "two of the batch, and the online one"


def test_online_requests_pass_the_batch_at_decode_and_it_is_counted_apart(model):
    one = replace(model, max_running_requests=1)
    served = cluster(one, [0.0, 0.0, 0.1, 0.2], 10, [300, 300, 50, 50], [True, True, False, False], slot_share=0.5)
    assert served.ttft_seconds[2] < served.ttft_seconds[3]
    assert served.finished == served.first_tokens == 2
    assert served.finished_output_tokens == 100
    assert served.batch_finished == 0, "of the time of the trace"


def test_what_a_policy_sees_is_the_online_load(model):
    made = BatchCluster(model, trace(range(20), 1000, 5, [i % 2 == 0 for i in range(20)]), 2, 2, NOW, 0.5)
    telemetry = Telemetry(made)
    seen = []

    def look():
        telemetry.scrape()
        seen.append((telemetry.batch_waits, telemetry.requests(0.0, 20.0)[0]))
        return 5.0

    made.run(look)
    assert {count for _, count in seen} == {10}


def test_jobs_have_the_share_asked_for_and_come_at_once():
    online = trace(np.linspace(0, 3600, 1000), 100, 10)
    drawn = batch.jobs(online, 0.5, 1800.0, seed=1)
    assert len(drawn) == 500
    assert set(drawn.arrival_seconds) == {0.0, 1800.0}
    together, of_batch = batch.beside(online, drawn)
    assert of_batch.sum() == 500
    assert (np.diff(together.arrival_seconds) >= 0).all()


def test_a_row_tells_of_the_online_requests_alone(model):
    online = trace(np.linspace(0, 60, 200), 500, 20)
    drawn = batch.jobs(online, 1.0, 60.0, seed=1)
    none, behind = (
        batch.serve(online, drawn, row, model, NOW.objectives, (1, 1))
        for row in (batch.Row("none", with_batch=False), batch.Row("behind"))
    )
    assert none.split(" | ")[1] == "100.00%"
    assert behind.split(" | ")[1] == "100.00%"
    assert behind.split(" | ")[-1] == none.split(" | ")[-1], "the same workers"


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [("--job-every", "0", "a number above 0"), ("--slot-share", "5", "a share of 0 to 1")],
)
def test_what_can_not_be_meant_is_named(option, value, expected, capsys):
    assert batch.main(["nowhere.csv", option, value]) == 2
    assert f"{option} {value}: expected {expected}" in capsys.readouterr().err


def test_a_trace_that_is_not_there_is_named(capsys):
    assert batch.main(["nowhere.csv"]) == 2
    assert "nowhere.csv" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_dopd_is_told_what_a_batch_may_add(share):
    rows = batch.rows((0.25,), (share,))
    assert [row.batch_share for row in rows if row.apart and row.with_batch] == [share]
