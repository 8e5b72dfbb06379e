import logging

from dopd_sglang.prefill_order.guard import Guard


def fail(guard, now_seconds, error=ValueError):
    return guard.failed("planning", error("x"), now_seconds)


def test_three_errors_in_a_minute_switch_it_off():
    guard = Guard()
    assert [fail(guard, now) for now in (0.0, 30.0, 59.0)] == [False, False, True]
    assert guard.off


def test_errors_that_are_far_apart_do_not():
    guard = Guard()
    for now in (0.0, 50.0, 100.0, 150.0):
        assert not fail(guard, now)
    assert not guard.off


def test_each_kind_is_logged_once(caplog):
    guard = Guard()
    with caplog.at_level(logging.ERROR):
        for now in (0.0, 100.0, 200.0):
            fail(guard, now)
        fail(guard, 300.0, TypeError)
    assert len(caplog.records) == 2
    assert all(record.exc_info for record in caplog.records)
