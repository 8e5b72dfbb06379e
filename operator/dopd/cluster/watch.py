"""The stream of changes of one kind of object, names and labels alone unless more is asked for."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from dopd.cluster.client import REQUEST_TIMEOUT_SECONDS, ApiError, Kubernetes
from dopd.cluster.decode import decode, lines
from dopd.cluster.kinds import Kind

Json = dict[str, Any]

METADATA_ONLY = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
"""Header Accept by which the API server leaves spec and status out."""

MOST_EVENT_BYTES = 8 * 2**20
"""Of one event; an object has 1.5 MB at most, its text up to four times that."""

SILENCE_SECONDS = 90.0
"""The API server says each minute how far a watch has come, changes or not. One that is silent for longer is dead."""

LONGEST_SECONDS = 600.0
"""After that the server ends a watch, and the next goes on from there."""


async def events(
    kubernetes: Kubernetes, kind: Kind, namespace: str | None, selector: str, since: str, *, whole: bool = False
) -> AsyncIterator[Json | None]:
    """Changes after a resourceVersion, until the server ends the watch; None first, once it is open.

    Args:
        kubernetes: where to watch.
        kind: of the objects.
        namespace: where; everywhere if absent.
        selector: labels to match.
        since: resourceVersion of a list.
        whole: objects as they are, not their metadata alone.

    Raises:
        ApiError: the server refuses, ends or forgets the watch, is silent for too long, or says what can not be read.
    """
    path = kind.path(namespace)
    query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": since}
    query |= {"timeoutSeconds": f"{LONGEST_SECONDS:.0f}", **({"labelSelector": selector} if selector else {})}
    limit = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_SECONDS, sock_read=SILENCE_SECONDS)
    accept = "application/json" if whole else METADATA_ONLY
    try:
        async with await kubernetes.send("GET", path, query=query, limit=limit, accept=accept) as answer:
            if answer.status != 200:
                raise ApiError(answer.status, "", f"watch {path}: status {answer.status}")
            yield None
            async for line in lines(answer.content.iter_any(), MOST_EVENT_BYTES, strict=True):
                event = decode(line)
                if event["type"] == "ERROR":
                    told = event["object"]
                    raise ApiError(told.get("code", 0), told.get("reason", ""), f"watch {path}: {told.get('message')}")
                yield event
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ApiError(0, "Unreachable", f"watch {path}: {type(error).__name__} {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ApiError(0, "Unreadable", f"watch {path}: {type(error).__name__} {error}") from error
