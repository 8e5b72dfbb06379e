from dopd_sglang.prefill_order.decision import MOST_PIECES, NUMBERS, OWN_ORDER, Decision, Ranks, from_numbers


def test_numbers_tell_the_decision():
    decision = Decision(True, ((4, 100), (0, 2048)), (1, 3))
    assert from_numbers(decision.numbers()) == decision
    assert from_numbers(OWN_ORDER.numbers()) == OWN_ORDER


def test_there_are_always_as_many_numbers():
    crowd = Decision(True, tuple((place, 1) for place in range(1000)), tuple(range(1000)))
    assert {len(crowd.numbers()), len(OWN_ORDER.numbers())} == {NUMBERS}
    assert len(from_numbers(crowd.numbers()).pieces) == MOST_PIECES


def test_one_rank_decides_for_itself():
    decision = Decision(True, ((0, 1),))
    assert Ranks().agree(lambda: decision) is decision
