"""Ranks of a tensor parallel group compose the same passes, whatever fails on one of them alone."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import pytest

from dopd_sglang.prefill_order import start as starting
from dopd_sglang.prefill_order.decision import Ranks, from_numbers

from .fakes import request
from .test_control import Engine

SIZE = 2
SHAPES = [(5000, 1.0), (300, 2.0), (4000, 3.0), (700, 4.0), (20, 5.0), (30, 6.0)]


class Group:
    """What torch's group is to its ranks: they wait for each other, and one that is not there is found out."""

    def __init__(self):
        self._barrier = threading.Barrier(SIZE, timeout=10)
        self._said = [None] * SIZE

    def exchange(self, rank, what):
        self._said[rank] = what
        self._barrier.wait()
        said = list(self._said)
        self._barrier.wait()
        kinds = {kind for kind, _ in said}
        assert len(kinds) == 1, f"ranks wait for each other in different calls: {kinds}"
        return [value for _, value in said]


class Rank(Ranks):
    def __init__(self, rank, group):
        super().__init__(SIZE, rank)
        self.shared = group

    def agree(self, decide):
        said = self.shared.exchange(self.rank, ("agree", decide().numbers() if self.rank == 0 else None))
        return from_numbers(said[0])

    def on_any(self, flags):
        said = self.shared.exchange(self.rank, (f"on_any of {len(flags)}", flags))
        return [any(of_ranks) for of_ranks in zip(*said, strict=True)]


class Engines:
    """One engine of two ranks, each with a clock of its own and the same requests."""

    def __init__(self, tmp_path, **settings):
        group = Group()
        self.ranks = [Engine(tmp_path, **settings) for _ in range(SIZE)]
        for rank, engine in enumerate(self.ranks):
            engine.control.ranks = Rank(rank, group)
            engine.now += 17 * rank
            if rank:
                engine.control.metrics = None
        self.requests = [[request(*shape) for shape in SHAPES] for _ in self.ranks]
        for engine, requests in zip(self.ranks, self.requests, strict=True):
            engine.wait(*requests)
        self._threads = ThreadPoolExecutor(SIZE)

    def compose(self):
        """One pass on all ranks: tokens by number of the request, of each rank."""
        composed = self._threads.map(lambda engine: engine.scheduler.compose(), self.ranks)
        passes = []
        for tokens_of, requests in zip(composed, self.requests, strict=True):
            numbers = {req.rid: number for number, req in enumerate(requests)}
            passes.append({numbers[rid]: tokens for rid, tokens in tokens_of.items()})
        return passes

    def queues(self):
        return [
            [requests.index(req) for req in engine.scheduler.waiting_queue]
            for engine, requests in zip(self.ranks, self.requests, strict=True)
        ]


def breaks(monkeypatch, owner, name, times=1):
    """Make a method fail for so many calls."""
    original, left = getattr(owner, name), [times]

    def broken(*args, **named):
        if left[0]:
            left[0] -= 1
            raise RuntimeError("broken on one rank alone")
        return original(*args, **named)

    monkeypatch.setattr(owner, name, broken)


def together(engines, passes=20):
    computed = {}
    for _ in range(passes):
        first, *others = engines.compose()
        assert [first] * len(others) == others
        assert len({str(queue) for queue in engines.queues()}) == 1
        for number, tokens in first.items():
            computed[number] = computed.get(number, 0) + tokens
    return computed


WHOLE = {number: tokens for number, (tokens, _) in enumerate(SHAPES)}


def test_the_ranks_of_a_group_compose_the_same_passes(tmp_path):
    assert together(Engines(tmp_path)) == WHOLE


PARTS = {
    "the lookup of prefixes": lambda control: (control.requests, "refresh"),
    "the plan": lambda control: (control, "_ready"),
    "what is reserved": lambda control: (control, "_rest_tokens"),
    "the settings": lambda control: (control.planner, "refresh"),
    "the order itself": lambda control: (control.planner, "decide"),
    "the turns of unfinished prompts": lambda control: (control.unfinished, "take_turns"),
    "what is counted": lambda control: (control.requests, "computing"),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("rank", range(SIZE))
@pytest.mark.parametrize("times", [1, 2, 100])
def test_what_fails_on_one_rank_alone_is_the_same_for_all(tmp_path, monkeypatch, part, rank, times):
    engines = Engines(tmp_path)
    breaks(monkeypatch, *PARTS[part](engines.ranks[rank].control), times)
    assert together(engines) == WHOLE


def test_a_rank_that_fails_again_and_again_switches_the_order_off_for_all(tmp_path, monkeypatch):
    engines = Engines(tmp_path)
    breaks(monkeypatch, engines.ranks[1].control, "_ready", 3)
    together(engines, 4)
    first = engines.ranks[0]
    assert first.control.guard.off
    assert first.metric("dopd_prefill_order_fallbacks_total", reason="error") == 3
    assert first.metric("dopd_prefill_order_fallbacks_total", reason="switched-off") == 1
    assert first.metric("dopd_prefill_order_active") == 0


@pytest.mark.parametrize(
    ("failing", "served"), [((), False), ((0,), False), ((1,), False), ((0, 1), True)], ids=["none", "0", "1", "both"]
)
def test_a_prompt_that_one_rank_ended_is_gone_on_all(tmp_path, monkeypatch, failing, served):
    engines = Engines(tmp_path, latePrompts="Refuse", ttftSeconds=103, policy="shortest-first")
    broken = {id(engines.ranks[rank].scheduler) for rank in failing}

    def refuse(scheduler, _):
        if id(scheduler) in broken:
            raise RuntimeError("broken")

    monkeypatch.setattr("dopd_sglang.prefill_order.control.refuse", refuse)
    computed = together(engines)
    assert (computed.get(0) == SHAPES[0][0]) is served
    assert {number: computed[number] for number in computed if number} == {n: t for n, t in WHOLE.items() if n}


@pytest.mark.parametrize("broken", [None, 0, 1, "the metrics of rank 0"])
def test_all_ranks_start_or_none_does(monkeypatch, broken):
    group, contexts = Group(), threading.local()
    packages = {name: ModuleType(name) for name in ("sglang", "sglang.srt")}
    context = ModuleType("sglang.srt.runtime_context")
    context.get_parallel = lambda: contexts.parallel
    for name, module in {**packages, "sglang.srt.runtime_context": context}.items():
        monkeypatch.setitem(sys.modules, name, module)

    def begin(scheduler, ranks, metrics):
        if ranks.rank == broken:
            raise RuntimeError("broken")
        return "started"

    monkeypatch.setattr(starting, "_start", begin)

    def metrics():
        if contexts.parallel.tp_rank == 0 and broken == "the metrics of rank 0":
            raise RuntimeError("broken")

    monkeypatch.setattr(starting, "_metrics_of_first_rank", metrics)
    monkeypatch.setattr(starting, "Ranks", lambda size, rank, *_: Rank(rank, group))

    def run(rank):
        contexts.parallel = SimpleNamespace(tp_size=SIZE, tp_rank=rank)
        return starting.start(SimpleNamespace(tp_group=SimpleNamespace(cpu_group=None, first_rank=0)))

    with ThreadPoolExecutor(SIZE) as threads:
        started = list(threads.map(run, range(SIZE)))
    assert started == (["started"] * SIZE if broken is None else [None] * SIZE)
