"""Work in a process of its own: whatever becomes of the process, the caller hears of it and the next call is done."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path

import numpy as np
import pytest

from dopd_forecasting import EstimationPool, Forecaster, ProcessExecutor, Series, WorkFailed
from dopd_forecasting.models.arima import Arima
from dopd_forecasting.models.naive import LastValue
from dopd_forecasting.models.state_space import ExponentialLevel


@pytest.fixture
def executor() -> Iterator[ProcessExecutor]:
    found = ProcessExecutor()
    yield found
    found.shutdown()


def gone(pid: int) -> bool:
    for _ in range(1000):
        if not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return True
        time.sleep(0.01)
    return False


def test_calls_are_done_elsewhere_and_in_order(executor: ProcessExecutor) -> None:
    assert executor.pid is None
    first, second = executor.submit(os.getpid), executor.submit(os.getpid)
    assert first.result() == second.result() == executor.pid != os.getpid()


def test_an_error_is_the_call_s_and_one_that_does_not_travel_is_told_all_the_same(executor: ProcessExecutor) -> None:
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result()
    with pytest.raises(TypeError, match="cannot pickle"):
        executor.submit(open, "/dev/null").result()
    with pytest.raises(RuntimeError, match="Own: of nobody else"):
        executor.submit(exec, "class Own(Exception): pass\nraise Own('of nobody else')").result()
    assert executor.submit(divmod, 7, 2).result() == (3, 1)


def test_what_is_printed_is_no_answer(executor: ProcessExecutor) -> None:
    assert executor.submit(os.write, 1, b"what a library prints\n").result() == 22
    assert executor.submit(divmod, 7, 2).result() == (3, 1)


def test_groups_take_turns(executor: ProcessExecutor) -> None:
    done: list[str] = []

    def submit(group: str) -> Future[None]:
        future = executor.of(group).submit(os.getpid)
        future.add_done_callback(lambda _: done.append(group))
        return future

    executor.submit(time.sleep, 0.3)
    many = [submit("many") for _ in range(5)]
    one = submit("one")
    wait([*many, one])
    assert done.index("one") <= 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_costs_the_call_under_way_and_no_other(
    executor: ProcessExecutor, how: signal.Signals
) -> None:
    first = executor.submit(os.getpid).result()
    under_way, next_one = executor.submit(os.kill, first, how), executor.submit(os.getpid)
    with pytest.raises(WorkFailed, match=f"ended with -{how}"):
        under_way.result()
    assert next_one.result() not in (first, os.getpid())


def test_a_call_that_takes_too_long_is_ended_even_where_its_process_stands_still(
    executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = executor.submit(os.getpid).result()
    monkeypatch.setattr(executor, "_longest_seconds", 0.2)  # not of a start
    stopped = executor.submit(os.kill, pid, signal.SIGSTOP)
    with pytest.raises(WorkFailed, match=r"longer than 0\.2 s"):
        stopped.result()
    monkeypatch.undo()
    assert executor.submit(divmod, 7, 2).result() == (3, 1)


def test_memory_has_a_bound(executor: ProcessExecutor) -> None:
    with pytest.raises(MemoryError):
        executor.submit(bytearray, 2**30).result()
    assert executor.submit(divmod, 7, 2).result() == (3, 1)


def test_it_ends_when_there_is_nothing_to_do_and_begins_anew() -> None:
    executor = ProcessExecutor(idle_seconds=0.05)
    first = executor.submit(os.getpid).result()
    assert gone(first)
    assert executor.submit(os.getpid).result() != first
    executor.shutdown()


def test_a_shutdown_ends_what_is_under_way_and_drops_the_rest() -> None:
    executor = ProcessExecutor()
    pid = executor.submit(os.getpid).result()
    under_way, waiting = executor.submit(time.sleep, 60), executor.submit(os.getpid)
    executor.shutdown()
    assert gone(pid)
    assert waiting.cancelled()
    assert under_way.cancelled() or isinstance(under_way.exception(), WorkFailed)
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(os.getpid)


def test_it_dies_with_who_started_it_in_the_middle_of_a_call() -> None:
    program = (
        "import os, sys, time\n"
        "from dopd_forecasting import ProcessExecutor\n"
        "e = ProcessExecutor(); print(e.submit(os.getpid).result(), flush=True)\n"
        "e.submit(time.sleep, 60).result()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert gone(pid)


def test_who_leaves_estimations_to_it_does_without_their_libraries() -> None:
    program = "import sys, dopd_forecasting; print(*{'statsmodels', 'pandas', 'scipy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


MODELS = (LastValue, ExponentialLevel, Arima)


def test_a_forecast_is_the_same_wherever_it_is_estimated(
    executor: ProcessExecutor, noisy_load: Callable[..., Series]
) -> None:
    load = noisy_load(300)
    here = Forecaster(MODELS, scored_horizons=(1, 10))
    here.fit(load)
    elsewhere = EstimationPool(executor).begin_fit(Forecaster(MODELS, scored_horizons=(1, 10)), load).result()
    np.testing.assert_allclose(elsewhere.predict((60.0,)).quantiles, here.predict((60.0,)).quantiles)


def test_a_model_outlives_the_process_that_was_estimating_it_anew(
    executor: ProcessExecutor, noisy_load: Callable[..., Series]
) -> None:
    load = noisy_load(380)
    forecaster = Forecaster(MODELS, scored_horizons=(1, 10), defer_estimations=True)
    forecaster.fit(load.before(250))
    pid = executor.submit(os.getpid).result()
    pool = EstimationPool(executor)
    forecaster.update(load)
    held_up = executor.submit(time.sleep, 60)
    assert pool.submit([forecaster]) > 0
    assert pool.submit([forecaster]) == 0
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkFailed):
        held_up.result()
    while pool.collect(timeout_seconds=None):
        pass
    assert forecaster.failures == {}
