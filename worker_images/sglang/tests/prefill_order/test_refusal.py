import sys
from types import ModuleType, SimpleNamespace

import pytest

from dopd_sglang.prefill_order import refusal

from .fakes import request


class Engine:
    """What a refusal touches of SGLang's scheduler; notes what happens."""

    def __init__(self, mode):
        self.done = []
        self.disaggregation_mode = SimpleNamespace(value=mode)
        self.beam_coordinator = SimpleNamespace(retire_group=lambda req: None)

    def _release_aborted_request(self, req):
        self.done.append("cache")

    def send_abort_output(self, answer, req):
        self.done.append(answer["status_code"])

    def release_aborted_prefill_waiting_req(self, req):
        self.done.append("released")


@pytest.fixture(autouse=True)
def sglang(monkeypatch):
    for name in ("sglang", "sglang.srt", "sglang.srt.managers", "sglang.srt.managers.scheduler"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["sglang.srt.managers.scheduler"]._make_abort_req = lambda req, finished_reason: finished_reason


@pytest.fixture
def timers(monkeypatch):
    timers = []

    class Timer:
        def __init__(self, seconds, call, kwargs):
            self.seconds, self.call, self.kwargs = seconds, call, kwargs

        def start(self):
            timers.append(self)

    monkeypatch.setattr(refusal, "Timer", Timer)
    return timers


def test_the_client_gets_503_and_the_decode_engine_is_told_a_moment_later(timers):
    told, engine, req = [], Engine("prefill"), request(100)
    manager = SimpleNamespace(conclude_failure=lambda **failed: told.append(failed))
    req.disagg_kv_sender = SimpleNamespace(kv_mgr=manager, bootstrap_room=7)
    refusal.refuse(engine, req)
    assert engine.done == ["cache", 503, "released"]
    assert not told
    [timer] = timers
    assert timer.daemon
    timer.call(**timer.kwargs)
    assert told == [{"bootstrap_room": 7, "failure_reason": refusal.MESSAGE}]


def test_a_transfer_without_a_manager_has_nobody_to_tell(timers):
    req = request(100)
    req.disagg_kv_sender = SimpleNamespace()
    refusal.refuse(Engine("prefill"), req)
    assert not timers


def test_a_regular_engine_has_no_decode_engine(timers):
    req = request(100)
    req.kv.holds_mamba = False
    engine = Engine("null")
    refusal.refuse(engine, req)
    assert engine.done == ["cache", 503]
