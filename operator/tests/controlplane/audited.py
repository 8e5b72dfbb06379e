"""Workers over time, as the API server's audit log tells: at each of its events, not when a test looked."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path


def workers_over_time(log: Path, names: Collection[tuple[str, str]]) -> Iterator[Counter[tuple[str, str]]]:
    """Worker pods of some resources after each event that changed them.

    Args:
        log: the audit log.
        names: namespace and name of the resources.
    """
    there: dict[tuple[str, str], tuple[str, str]] = {}
    for line in map(json.loads, log.read_text().splitlines()):
        target = line.get("objectRef", {})
        if target.get("resource") != "pods" or line["stage"] != "ResponseComplete" or "dryRun" in line["requestURI"]:
            continue
        if line.get("responseStatus", {}).get("code", 500) >= 300:
            continue
        namespace, pod = target.get("namespace", ""), target.get("name", "")
        mine = ((ns, name) for ns, name in names if ns == namespace and _is_worker(pod, name))
        of = next(mine, None)
        if of is None:
            continue
        before = len(there)
        if line["verb"] == "create" and not target.get("subresource"):
            there[namespace, pod] = of
        if line["verb"] == "delete" and "httpx" in line.get("userAgent", ""):  # the kubelet's last word
            there.pop((namespace, pod), None)
        if len(there) != before:
            yield Counter(there.values())


def _is_worker(pod: str, name: str) -> bool:
    return pod.startswith((f"{name}-prefill-", f"{name}-decode-"))
