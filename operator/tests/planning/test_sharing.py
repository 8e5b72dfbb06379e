import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.planning.bounds import NoRoomError
from dopd.planning.sharing import Claim, share

pairs = st.tuples(st.integers(1, 12), st.integers(1, 12))
claims = st.lists(
    st.builds(
        lambda priority, wanted, gpus: (priority, wanted, gpus),
        st.integers(0, 3),
        pairs,
        st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])),
    ),
    min_size=1,
    max_size=5,
).map(lambda rows: [Claim(f"r{i}", p, w, (1, 1), g) for i, (p, w, g) in enumerate(rows)])


@given(claims=claims, pool=st.integers(0, 150))
def test_the_pool_is_never_exceeded_and_nobody_gets_less_than_its_minimum_or_more_than_it_wants(claims, pool):
    try:
        given_pairs = share(claims, pool)
    except NoRoomError:
        assert sum(claim.cost((1, 1)) for claim in claims) > pool
        return
    assert sum(claim.cost(given_pairs[claim.name]) for claim in claims) <= pool
    for claim in claims:
        for role in (0, 1):
            assert 1 <= given_pairs[claim.name][role] <= max(1, claim.wanted[role])


@given(claims=claims, pool=st.integers(60, 100))
def test_a_larger_pool_serves_the_most_important_no_worse(claims, pool):
    first = max(claims, key=lambda claim: claim.priority)
    less, more = share(claims, pool), share(claims, pool + 5)
    if sum(claim.priority == first.priority for claim in claims) == 1:
        assert first.served(more[first.name]) >= first.served(less[first.name])


def test_priority_goes_first_and_equals_are_served_alike():
    claims = [Claim("low", 0, (6, 6), (1, 1)), Claim("high", 1, (4, 4), (1, 1))]
    assert share(claims, 12) == {"low": (2, 2), "high": (4, 4)}
    equals = [Claim("a", 0, (8, 8), (1, 1)), Claim("b", 0, (4, 4), (1, 1))]
    assert share(equals, 12) == {"a": (4, 4), "b": (2, 2)}


def test_minima_above_the_pool_are_refused_with_the_numbers():
    with pytest.raises(NoRoomError, match=r"has 3 GPUs.*need 4"):
        share([Claim("a", 0, (1, 1), (1, 1)), Claim("b", 0, (1, 1), (1, 1))], 3)
