"""Workers divided over domains: all of them, within the room, in the ratio of the whole, and none moved in vain."""

import math
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.planning.domains import Counts, Division, divide

P, D = Role.PREFILL, Role.DECODE
NAMES = "abcd"
counts = st.builds(lambda p, d: {P: p, D: d}, st.integers(1, 40), st.integers(1, 40))
gpus = st.builds(lambda p, d: {P: p, D: d}, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]))
room = st.lists(st.integers(1, 200), min_size=1, max_size=4).map(lambda limits: dict(zip(NAMES, limits, strict=False)))
some = st.integers(0, 20)
current = st.dictionaries(st.sampled_from(NAMES), st.builds(lambda p, d: {P: p, D: d}, some, some), max_size=4)


def held(of: Counts, each: Counts) -> int:
    return sum(of[role] * each[role] for role in Role)


def rounded(share: float) -> set[int]:
    return {math.floor(share + 1e-9), math.ceil(share - 1e-9)}


@given(counts, gpus, room, current)
def test_nobody_is_lost_no_domain_is_overfull_and_each_has_the_ratio(
    targets: Counts, each: Counts, room: Mapping[str, int], current: Mapping[str, Counts]
):
    made = divide(targets, each, room, current)
    for role in Role:
        assert sum(of[role] for of in made.counts.values()) + made.unplaced[role] == targets[role]
        assert made.unplaced[role] >= 0
    placed = {role: targets[role] - made.unplaced[role] for role in Role}
    rare = P if targets[P] <= targets[D] else D
    for domain, of in made.counts.items():
        assert held(of, each) <= room[domain]
        assert (of[P] > 0) == (of[D] > 0), "a worker without a partner serves nobody"
        if placed[rare]:
            assert of[rare.other] in rounded(of[rare] * placed[rare.other] / placed[rare])


@given(counts, gpus, room, current)
def test_what_was_divided_stays(targets: Counts, each: Counts, room: Mapping[str, int], current: Mapping[str, Counts]):
    made = divide(targets, each, room, current)
    assert divide(targets, each, room, made.counts) == made


@given(counts, gpus, current)
def test_where_there_is_room_for_all_all_are_placed(targets: Counts, each: Counts, current: Mapping[str, Counts]):
    room = {"a": held(targets, each), "b": held(targets, each)}
    made = divide(targets, each, room, current)
    assert not any(made.unplaced.values())


@given(counts, gpus, room)
def test_a_greater_target_takes_no_unit_away(targets: Counts, each: Counts, room: Mapping[str, int]):
    """As long as the ratio stays: twice the workers, in the same places and more."""
    before = divide(targets, each, room, {})
    after = divide({role: 2 * targets[role] for role in Role}, each, room, before.counts)
    rare = P if targets[P] <= targets[D] else D
    assert all(after.counts[name][rare] >= of[rare] for name, of in before.counts.items())


def made_of(p: int, d: int, room: Mapping[str, int], current: Mapping[str, tuple[int, int]]) -> dict[str, list[int]]:
    found: Division = divide({P: p, D: d}, {P: 1, D: 1}, room, {n: {P: a, D: b} for n, (a, b) in current.items()})
    return {name: [of[P], of[D]] for name, of in found.counts.items()}


def test_domains_are_begun_in_order_and_filled_before_the_next():
    assert made_of(2, 4, {"a": 8, "b": 8}, {}) == {"a": [2, 4], "b": [0, 0]}
    assert made_of(4, 8, {"a": 8, "b": 8}, {"a": (2, 4)}) == {"a": [2, 4], "b": [2, 4]}


def test_what_shrinks_empties_the_smallest_domain():
    assert made_of(2, 4, {"a": 8, "b": 8}, {"a": (1, 2), "b": (2, 4)}) == {"a": [0, 0], "b": [2, 4]}


def test_a_worker_that_was_lost_comes_back_where_its_role_is_lacking():
    assert made_of(4, 8, {"a": 12, "b": 12}, {"a": (1, 4), "b": (2, 4)}) == {"a": [2, 4], "b": [2, 4]}
    assert made_of(4, 8, {"a": 12, "b": 12}, {"a": (2, 4), "b": (2, 1)}) == {"a": [2, 4], "b": [2, 4]}


def test_a_domain_that_lost_workers_shrinks_first():
    assert made_of(3, 6, {"a": 12, "b": 12}, {"a": (2, 2), "b": (2, 4)}) == {"a": [1, 2], "b": [2, 4]}


def test_a_rounded_share_moves_no_worker():
    assert made_of(2, 5, {"a": 8, "b": 8}, {"a": (1, 2), "b": (1, 3)}) == {"a": [1, 2], "b": [1, 3]}
    assert made_of(2, 6, {"a": 8, "b": 8}, {"a": (1, 2), "b": (1, 3)}) == {"a": [1, 3], "b": [1, 3]}


def test_what_has_no_room_is_told_and_has_the_ratio_too():
    made = divide({P: 3, D: 6}, {P: 1, D: 1}, {"a": 6}, {})
    assert (dict(made.counts["a"]), dict(made.unplaced)) == ({P: 2, D: 4}, {P: 1, D: 2})


def test_a_role_without_workers_divides_nothing():
    made = divide({P: 0, D: 3}, {P: 1, D: 1}, {"a": 2, "b": 2}, {})
    assert sum(of[D] for of in made.counts.values()) == 3
