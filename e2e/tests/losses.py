"""Whether a change of the cluster loses a request."""

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.load import BackgroundLoad, Schedule, Target
from e2e.stack import Stack, wait_for
from e2e.tests.resources import MODEL

MOST_SENT_AGAIN = 2
"""A gateway that leaves closes the connections that it kept. A request is seldom on its way on one just then."""


@contextmanager
def none_lost(stack: Stack, schedule: Schedule) -> Iterator[None]:
    """Something happens under load, and every request gets all its tokens."""
    with BackgroundLoad(Target(stack.gateway_url, MODEL), schedule) as load:
        wait_for(lambda: len(load.results) >= 12, "the load flows", timeout_seconds=30)
        yield
        results = load.stop()
    assert not load.lost, load.lost
    assert all(result.got_tokens == result.asked_tokens for result in results)
    again = sum(result.sent_again for result in results)
    assert again <= MOST_SENT_AGAIN
    print(f"{len(results)} requests, none lost, {again} sent again")
