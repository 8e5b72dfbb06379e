"""Room for large answers: bounded in all, in turns, and nobody waits for who is slow."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.cluster.room import HOLD_SECONDS, SLOW_SECONDS, Place, Room


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Answer:
    """What a place is for."""

    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


class Asker:
    """One who asks for room, and does not wait in the test."""

    def __init__(self, room: Room, group: str, size: int = 1) -> None:
        self.answer, self.place = Answer(), room.place(group, size)
        self.place.enter_within(self.answer, 0.0)

    @property
    def inside(self) -> bool:
        return self.place._taken.is_set() and not self.answer.dropped


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_there_is_room_for_so_much_and_the_next_waits(clock: Clock):
    room = Room(3, now=clock)
    first, second, third = (Asker(room, "a", size) for size in (2, 1, 2))
    assert (first.inside, second.inside, third.inside) == (True, True, False)
    second.place.leave()
    assert not third.inside
    first.place.leave()
    assert third.inside


def test_who_is_slow_loses_the_place_once_somebody_waits(clock: Clock):
    room = Room(2, now=clock)
    slow, other = Asker(room, "slow"), Asker(room, "slow")
    clock.seconds = 100 * HOLD_SECONDS
    room.look()
    assert slow.inside, "nobody waits"
    assert other.inside
    victim = Asker(room, "victim")
    assert victim.inside
    assert slow.answer.dropped
    assert other.inside, "one place was enough"


def test_who_is_quick_is_not_interrupted(clock: Clock):
    room = Room(1, now=clock)
    quick = Asker(room, "quick")
    victim = Asker(room, "victim")
    clock.seconds = HOLD_SECONDS * 0.9
    assert 0 < room.look() <= HOLD_SECONDS
    assert not victim.inside
    quick.place.read()
    clock.seconds = HOLD_SECONDS * 9
    room.look()
    assert quick.inside, "it is whole, and only to be parsed"
    quick.place.leave()
    assert victim.inside


def test_who_lost_a_place_is_behind_all_others_for_a_while(clock: Clock):
    room = Room(1, now=clock)
    Asker(room, "slow")
    clock.seconds = HOLD_SECONDS
    well = Asker(room, "well")
    again, later = Asker(room, "slow"), Asker(room, "late-comer")
    well.place.leave()
    assert (again.inside, later.inside) == (False, True)
    later.place.leave()
    assert again.inside
    again.place.leave()
    clock.seconds += SLOW_SECONDS
    holds, first, second = Asker(room, "x"), Asker(room, "slow"), Asker(room, "well")
    holds.place.leave()
    assert (first.inside, second.inside) == (True, False)


def test_the_namespace_that_holds_least_is_next(clock: Clock):
    room = Room(4, now=clock)
    many = [Asker(room, "many") for _ in range(8)]
    one = Asker(room, "one")
    many[0].place.leave()
    assert one.inside
    assert [asker.inside for asker in many[1:]].count(True) == 3


def test_what_can_never_fit_takes_all_there_is(clock: Clock):
    room = Room(4, now=clock)
    assert Asker(room, "a", 100).inside


def test_who_does_not_come_in_is_not_kept(clock: Clock):
    room = Room(1, now=clock)
    first, second, third = (Asker(room, name) for name in "abc")
    second.place.leave()
    first.place.leave()
    assert third.inside


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.sampled_from(["ask", "leave", "read", "wait"])),
        max_size=40,
    )
)
def test_never_is_more_held_than_there_is_and_room_comes_back(steps: list[tuple[str, int, str]]):
    clock = Clock()
    room = Room(8, now=clock)
    askers: list[tuple[Asker, int]] = []
    for group, number, what in steps:
        if what == "ask":
            askers.append((Asker(room, group, number), number))
        elif what == "wait":
            clock.seconds += number * HOLD_SECONDS / 2
            room.look()
        elif askers:
            asker, _ = askers[number % len(askers)]
            asker.place.read() if what == "read" else askers.pop(number % len(askers))[0].place.leave()
        assert sum(size for asker, size in askers if asker.inside) <= 8
    for asker, _ in askers:
        asker.place.leave()
    assert Asker(room, "z", 8).inside


async def test_threads_and_the_event_loop_share_it():
    room = Room(1)
    holder, waiting = Asker(room, "a"), room.place("b", 1)
    entering = asyncio.create_task(waiting.enter(Answer()))
    threading.Timer(0.05, holder.place.leave).start()
    await entering
    behind = room.place("c", 1)
    thread = asyncio.create_task(asyncio.to_thread(behind.enter_within, Answer(), 10.0))
    await asyncio.sleep(0.05)
    waiting.leave()
    assert await thread


async def test_who_waits_takes_the_room_of_who_is_slow_without_being_told():
    room = Room(1, hold_seconds=0.05)
    slow = Asker(room, "slow")
    place: Place = room.place("victim", 1)
    await place.enter(Answer())
    assert slow.answer.dropped
    assert await asyncio.to_thread(room.place("next", 1).enter_within, Answer(), 10.0)


async def test_a_wait_that_is_given_up_leaves_no_trace():
    room = Room(1)
    holder, place = Asker(room, "a"), room.place("b", 1)
    entering = asyncio.create_task(place.enter(Answer()))
    await asyncio.sleep(0)
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    place.leave()
    holder.place.leave()
    assert Asker(room, "c").inside
