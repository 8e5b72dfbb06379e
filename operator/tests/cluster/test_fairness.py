"""The gate that many share: whoever hangs waits behind everybody else."""

import asyncio
from collections.abc import Hashable

from dopd.cluster.fairness import FairGate


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Holder:
    """Tasks that hold places until they are told to go."""

    def __init__(self, gate: FairGate) -> None:
        self.gate, self.inside = gate, []
        self.tasks: list[asyncio.Task[None]] = []

    async def _hold(self, asker: tuple[Hashable, Hashable], go: asyncio.Event) -> None:
        async with self.gate.of(asker):
            self.inside.append(asker)
            await go.wait()
            self.inside.remove(asker)

    async def ask(self, group: str, member: str, times: int = 1) -> list[asyncio.Event]:
        events = [asyncio.Event() for _ in range(times)]
        self.tasks += [asyncio.create_task(self._hold((group, member), go)) for go in events]
        await settle()
        return events

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_no_asker_has_more_than_its_share():
    holder = Holder(FairGate(total=10, each=3))
    await holder.ask("bad", "a", times=20)
    assert holder.inside == [("bad", "a")] * 3
    await holder.ask("good", "b")
    assert ("good", "b") in holder.inside
    await holder.end()


async def test_a_place_that_becomes_free_is_for_the_group_with_the_fewest():
    holder = Holder(FairGate(total=4, each=4))
    first, *_ = await holder.ask("bad", "a", times=4)
    for member in "bcdefgh":
        await holder.ask("bad", member, times=4)
    await holder.ask("good", "v")
    assert ("good", "v") not in holder.inside
    first.set()
    await settle()
    assert ("good", "v") in holder.inside
    await holder.end()


async def test_a_group_has_some_places_of_its_own_whatever_others_do():
    holder = Holder(FairGate(total=4, each=4, own=2))
    for group in ("bad", "worse", "worst"):
        await holder.ask(group, "a", times=8)
    assert [holder.inside.count((group, "a")) for group in ("bad", "worse", "worst")] == [4, 2, 2]
    await holder.ask("good", "v", times=3)
    assert holder.inside.count(("good", "v")) == 2
    await holder.end()


async def test_within_a_group_it_is_for_the_member_with_the_fewest_and_then_for_who_waited_longest():
    holder = Holder(FairGate(total=2, each=2))
    first, second = await holder.ask("g", "a", times=2)
    for member in ("a", "b", "c"):
        await holder.ask("g", member)
    first.set()
    await settle()
    assert holder.inside == [("g", "a"), ("g", "b")]
    second.set()
    await settle()
    assert holder.inside == [("g", "b"), ("g", "a")]
    await holder.end()


async def test_who_gives_up_waiting_leaves_no_trace():
    gate = FairGate(total=1, each=1)
    holder = Holder(gate)
    (go,) = await holder.ask("a", "a")
    waiting = [asyncio.create_task(gate.enter(("b", "b"))) for _ in range(3)]
    await settle()
    go.set()  # the place is given to the first at the very moment in which all give up
    for task in waiting:
        task.cancel()
    await settle()
    await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(5):
        await gate.enter(("c", "c"))
    gate.leave(("c", "c"))
    await holder.end()


async def test_all_places_are_back_after_any_number_of_cancellations():
    gate = FairGate(total=3, each=2)
    for round_ in range(20):
        tasks = [asyncio.create_task(gate.enter((n % 4, n % 7))) for n in range(30)]
        for _ in range(round_ % 3):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        for n, result in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            if result is None:
                gate.leave((n % 4, n % 7))
    async with asyncio.timeout(5):
        for member in range(3):
            await gate.enter(("x", member))
