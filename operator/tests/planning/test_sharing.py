from hypothesis import given
from hypothesis import strategies as st

from dopd.planning.sharing import Claim, Entry, share

TYPES = ("h100", "l40s")
CAPS = {"h100": 40, "l40s": 24}
pairs = st.tuples(st.integers(0, 12), st.integers(0, 12))
kinds = st.tuples(st.sampled_from(TYPES), st.sampled_from(TYPES))
sizes = st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
gpus_by_type = st.fixed_dictionaries({kind: st.integers(0, 8) for kind in TYPES})
entries = st.lists(st.tuples(st.integers(0, 3), gpus_by_type, st.none() | gpus_by_type), min_size=1, max_size=3).map(
    lambda rows: {
        f"e{i}": Entry(p, g, {} if most is None else {k: max(most[k], g[k]) for k in TYPES})
        for i, (p, g, most) in enumerate(rows)
    }
)


@st.composite
def pools(draw):
    """Entries whose guarantees fit the caps, and claims of them."""
    of = draw(entries)
    rows = draw(st.lists(st.tuples(pairs, st.integers(0, 2), sizes, kinds, gpus_by_type), min_size=1, max_size=6))
    claims = [
        Claim(f"r{i}", draw(st.sampled_from(sorted(of))), want, (min(1, want[0]), min(least + 1, want[1])), g, k, kept)
        for i, (want, least, g, k, kept) in enumerate(rows)
    ]
    return of, claims


def total(claims, shares, kind, entry=None):
    return sum(c.cost(shares[c.name]).get(kind, 0) for c in claims if entry in (None, c.entry))


@given(pools())
def test_no_cap_is_exceeded_and_nobody_gets_more_than_it_wants_or_than_its_entry_allows(pool):
    of, claims = pool
    shares = share(claims, of, CAPS)
    for kind in TYPES:
        assert total(claims, shares, kind) <= CAPS[kind]
        for name, entry in of.items():
            assert total(claims, shares, kind, name) <= entry.most.get(kind, CAPS[kind])
    for claim in claims:
        assert all(has <= want for has, want in zip(shares[claim.name], claim.wanted, strict=True))


@given(pools())
def test_a_resource_has_its_minimum_or_nothing(pool):
    of, claims = pool
    for claim in claims:
        has = share(claims, of, CAPS)[claim.name]
        assert has == (0, 0) or all(h >= m for h, m in zip(has, claim.minimum, strict=True))


@given(pools())
def test_what_is_guaranteed_is_given_as_far_as_whole_workers_go(pool):
    """Nobody starves below its guarantee, whatever the priorities and whatever the others keep."""
    of, claims = pool
    shares = share(claims, of, CAPS)
    for claim in claims:
        entry, has = of[claim.entry], shares[claim.name]
        if has == (0, 0):
            step = claim.cost(claim.minimum)
        else:
            lacks = [role for role in (0, 1) if has[role] < claim.wanted[role]]
            if not lacks:
                continue
            step = min((claim.cost((1 - role, role)) for role in lacks), key=lambda cost: sum(cost.values()))
        if not any(step.values()):
            continue
        room = {kind: entry.guaranteed[kind] - total(claims, shares, kind, claim.entry) for kind in TYPES}
        assert any(gpus > room[kind] for kind, gpus in step.items() if gpus)


@given(pools(), st.integers(0, 8))
def test_the_only_one_of_the_greatest_priority_is_served_no_worse_by_a_larger_pool(pool, more):
    of, claims = pool
    first = max(claims, key=lambda claim: of[claim.entry].priority)
    if sum(of[claim.entry].priority == of[first.entry].priority for claim in claims) == 1:
        less, larger = share(claims, of, CAPS), share(claims, of, {k: n + more for k, n in CAPS.items()})
        if first.gpus == (1, 1):
            assert first.served(larger[first.name]) >= first.served(less[first.name])


@given(pools())
def test_the_order_of_the_claims_changes_nothing(pool):
    of, claims = pool
    assert share(claims, of, CAPS) == share(claims[::-1], of, CAPS)


def claim(name, wanted, **others):
    return Claim(name, name, wanted, **others)


def test_priority_goes_first_and_equals_are_served_alike():
    claims = [claim("low", (6, 6)), claim("high", (4, 4))]
    of = {"low": Entry(0, {"gpu": 2}), "high": Entry(1)}
    assert share(claims, of, {"gpu": 12}) == {"low": (2, 2), "high": (4, 4)}
    of = {"low": Entry(), "high": Entry()}
    assert share([claim("low", (8, 8)), claim("high", (4, 4))], of, {"gpu": 12}) == {"low": (4, 4), "high": (2, 2)}


def test_a_guarantee_comes_before_a_priority_and_is_lent_while_it_is_not_wanted():
    of = {"small": Entry(0, {"gpu": 4}), "great": Entry(100)}
    assert share([claim("small", (2, 2)), claim("great", (9, 9))], of, {"gpu": 12}) == {
        "small": (2, 2),
        "great": (4, 4),
    }
    assert share([claim("small", (0, 0)), claim("great", (6, 6))], of, {"gpu": 12})["great"] == (6, 6)


def test_the_resources_of_one_entry_share_its_guarantee_and_its_max():
    of = {"team": Entry(0, {"gpu": 4}, {"gpu": 6}), "other": Entry(5)}
    claims = [Claim("a", "team", (4, 4)), Claim("b", "team", (4, 4)), claim("other", (20, 20))]
    assert share(claims, of, {"gpu": 20}) == {"a": (1, 1), "b": (1, 1), "other": (8, 8)}
    assert share(claims[:2], of, {"gpu": 20}) in ({"a": (2, 2), "b": (1, 1)}, {"a": (1, 2), "b": (2, 1)})


def test_two_types_of_gpu_are_two_caps():
    of = {"a": Entry(1), "b": Entry(0)}
    claims = [claim("a", (6, 6), types=("l40s", "h100")), claim("b", (1, 6), types=("h100", "h100"))]
    assert share(claims, of, {"h100": 8, "l40s": 2}) == {"a": (2, 6), "b": (1, 1)}


def test_a_minimum_that_finds_no_room_is_not_begun():
    of = {"a": Entry(1), "b": Entry(0)}
    claims = [claim("a", (3, 3)), claim("b", (2, 2), minimum=(2, 2))]
    assert share(claims, of, {"gpu": 9}) == {"a": (3, 3), "b": (0, 0)}


def test_what_is_kept_comes_before_equals_but_not_before_a_guarantee():
    of = {"a": Entry(), "b": Entry()}
    claims = [claim("a", (6, 6), kept={"gpu": 8}), claim("b", (6, 6))]
    assert share(claims, of, {"gpu": 12}) == {"a": (4, 4), "b": (2, 2)}
    of["b"] = Entry(0, {"gpu": 6})
    assert share(claims, of, {"gpu": 12}) == {"a": (3, 3), "b": (3, 3)}
