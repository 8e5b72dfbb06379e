"""Whether a change of the cluster loses a request."""

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.load import BackgroundLoad, Schedule, Target
from e2e.stack import Stack, wait_for
from e2e.tests.resources import MODEL


@contextmanager
def none_lost(stack: Stack, schedule: Schedule) -> Iterator[None]:
    """Something happens under load, and every request gets all its tokens."""
    with BackgroundLoad(Target(stack.gateway_url, MODEL), schedule) as load:
        wait_for(lambda: len(load.results) >= 12, "the load flows", timeout_seconds=30)
        yield
        results = load.stop()
    assert load.lost == []
    assert all(result.got_tokens == result.asked_tokens for result in results)
    print(f"{len(results)} requests, none lost")
