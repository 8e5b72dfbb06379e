"""Passes over the resources that are due, several at a time; what fails is tried again after a pause of its own."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from dopd.cluster import ApiError
from dopd.cluster.backoff import Backoff
from dopd.cluster.fence import fenced
from dopd.reconcile import metrics
from dopd.reconcile.places import Places
from dopd.reconcile.queue import REST_AFTER_FAILURE_SECONDS, REST_SECONDS, Key, KeyQueue
from dopd.reconcile.reconciler import Reconciler

_LOG = logging.getLogger(__name__)

PASS_TIMEOUT_SECONDS = 120.0
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 30.0
OVERLOAD_SECONDS = 1.0
"""After status 429 of the API server, which always asks for one second (its flow control, `Retry-After: 1`)."""


async def work(reconciler: Reconciler, queue: KeyQueue) -> None:
    """Take keys and reconcile them, several at a time, for ever."""
    metrics.LEADER.set(1)
    try:
        await Passes(reconciler, queue).run()
    finally:
        metrics.LEADER.set(0)


class Passes:
    """Takes keys from the queue and has each looked at.

    Args:
        reconciler: does a pass.
        queue: says which resource is due.
        may: whether this process may write for a resource now; None for always.
    """

    def __init__(self, reconciler: Reconciler, queue: KeyQueue, may: Callable[[Key], bool] | None = None) -> None:
        self._reconciler, self._queue, self._may = reconciler, queue, may
        self._places = Places()
        self._pauses = Backoff(FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS)
        self._running: dict[Key, asyncio.Task[float]] = {}
        self._known: set[Key] = set()
        """Resources that something is remembered of."""

    async def run(self) -> None:
        """Take keys for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reconciler.backlogs.run(self._wake))
            while True:
                key = await self._queue.take()
                self._known.add(key)
                task = self._running[key] = group.create_task(self._one(key))
                task.add_done_callback(partial(self._done, key))  # of one that never began, too

    def _wake(self, key: Key) -> None:
        """What waits in the engines needs more workers than were planned."""
        self._reconciler.look_anew(key)
        self._queue.add(key)

    async def leave(self, left: Callable[[Key], bool]) -> None:
        """Give up what is under way for some resources, and forget what was known of them. They stay in the queue.

        Args:
            left: whether a resource is one of them.
        """
        tasks = [task for key, task in self._running.items() if left(key)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for key in [key for key in self._known if left(key)]:
            self._known.discard(key)
            self._reconciler.leave(key)
            self._queue.add(key)

    def _done(self, key: Key, task: asyncio.Task[float]) -> None:
        del self._running[key]
        failed = task.cancelled() or task.exception()
        self._queue.done(key, REST_SECONDS if failed else task.result())

    async def _one(self, key: Key) -> float:
        """One pass over a key that was taken; seconds for which it rests."""
        may = self._may
        try:
            with fenced(partial(may, key) if may else None):
                async with self._places.of(key), asyncio.timeout(PASS_TIMEOUT_SECONDS):
                    with metrics.RECONCILE_SECONDS.time():
                        delay = await self._reconciler.reconcile(key)
            self._pauses.succeeded(key)
            metrics.RECONCILES.labels("done").inc()
            if delay is None:
                self._known.discard(key)
            else:
                self._queue.add(key, delay)
            return REST_SECONDS
        except Exception as error:  # one resource in trouble must not stop the others
            metrics.RECONCILES.labels("failed").inc()
            overloaded = isinstance(error, ApiError) and error.status == HTTPStatus.TOO_MANY_REQUESTS
            delay = self._pauses.failed(key, OVERLOAD_SECONDS if overloaded else 0.0)
            expected = isinstance(error, ApiError | TimeoutError)
            _LOG.log(
                logging.WARNING if expected else logging.ERROR,
                "%s: %s; again in %.1f s",
                key,
                error or "no answer in time",
                delay,
                exc_info=None if expected else error,
            )
            self._queue.add(key, delay)
            return min(delay, REST_AFTER_FAILURE_SECONDS)
