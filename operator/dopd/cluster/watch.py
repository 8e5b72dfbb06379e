"""Watching: what changed, by name. Nothing that stands in an object can end it.

Only metadata is asked for, so that spec and status of other people's objects are neither sent nor read. A line that
can not be read is left out; any trouble ends in a new list after a pause.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from dopd.cluster.client import ApiError, Kubernetes
from dopd.cluster.decode import decode
from dopd.cluster.kinds import Kind

_LOG = logging.getLogger(__name__)

SERVER_SECONDS = 290
SILENT_SECONDS = 120.0
"""The API server sends a bookmark about once a minute."""

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
_GONE = 410


async def watch(
    kubernetes: Kubernetes,
    kind: Kind,
    namespace: str | None,
    selector: str,
    seen: Callable[[dict[str, Any]], None],
    listed: Callable[[], None],
) -> None:
    """Call `seen` with the metadata of each object that is there or changes, for ever.

    Args:
        kubernetes: the API server.
        kind: what to watch.
        namespace: where; everywhere if None.
        selector: labels to match; all if empty.
        seen: told of an object that is there, was changed or was deleted.
        listed: told each time when all that is there was seen.
    """
    failures = 0
    while True:
        try:
            version = ""
            async for page, version in kubernetes.metadata(kind, namespace, selector):  # noqa: B007 (the last one's)
                for metadata in page:
                    seen(metadata)
            listed()
            while version:
                version = await _follow(kubernetes, kind, namespace, selector, version, seen)
                failures = 0 if version else failures
        except Exception as error:  # whatever it is, the next change must be seen
            expected = isinstance(error, ApiError)
            _LOG.log(
                logging.WARNING if expected else logging.ERROR,
                "watch of %s in %s: %s; begun anew",
                kind.plural,
                namespace or "all namespaces",
                error,
                exc_info=None if expected else error,
            )
        pause = min(FIRST_PAUSE_SECONDS * 2**failures, LONGEST_PAUSE_SECONDS)
        failures = min(failures + 1, 10)
        await asyncio.sleep(pause)


async def _follow(
    kubernetes: Kubernetes,
    kind: Kind,
    namespace: str | None,
    selector: str,
    version: str,
    seen: Callable[[dict[str, Any]], None],
) -> str:
    """Follow changes until the server ends the connection; the version to go on from, "" when a new list is needed."""
    async for line in kubernetes.events(kind, namespace, selector, version, SERVER_SECONDS, SILENT_SECONDS):
        try:
            event = decode(line)
            type_, thing = event["type"], event["object"]
            if type_ == "ERROR":
                if thing.get("code") != _GONE:
                    _LOG.warning("watch of %s: %s", kind.plural, thing.get("message"))
                return ""
            metadata = thing["metadata"]
            version = metadata["resourceVersion"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _LOG.warning("watch of %s: an event that can not be read (%s): %.200r", kind.plural, error, line)
            continue
        if type_ != "BOOKMARK":
            seen(metadata)
    return version
