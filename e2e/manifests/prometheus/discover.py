"""Pod discovery for a Prometheus without it: Debian's package is built without `kubernetes_sd_configs`.

Runs beside Prometheus and writes what it would have found into a file for `file_sd_configs`, under the same
`__meta_kubernetes_*` labels, so that the relabelling of the scrape configuration is the one that real clusters
use.
"""

import json
import os
import re
import ssl
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PERIOD_SECONDS = 1.0


def pods() -> list[dict[str, Any]]:
    """All pods; the scrape configuration chooses."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    request = urllib.request.Request(
        f"https://{host}:{port}/api/v1/pods",
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"},
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=context, timeout=5) as answer:
        items: list[dict[str, Any]] = json.load(answer)["items"]
        return items


def targets(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """One target for each port of a pod that has an address."""
    address, meta = pod["status"].get("podIP"), pod["metadata"]
    if not address or pod["status"].get("phase") != "Running":
        return []
    labels = {
        "__meta_kubernetes_namespace": meta["namespace"],
        "__meta_kubernetes_pod_name": meta["name"],
        **{
            "__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", name): value
            for name, value in meta.get("labels", {}).items()
        },
    }
    return [
        {
            "targets": [f"{address}:{port['containerPort']}"],
            "labels": {**labels, "__meta_kubernetes_pod_container_port_name": port.get("name", "")},
        }
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    ]


def main() -> None:
    """Write the file given as argument whenever the pods change, for ever."""
    path, last = Path(sys.argv[1]), ""
    while True:
        try:
            found = json.dumps([target for pod in pods() for target in targets(pod)])
        except OSError as error:
            print(f"pods not read: {error}", file=sys.stderr, flush=True)
            found = last
        if found != last:
            fresh = path.with_suffix(".new")
            fresh.write_text(found)
            fresh.rename(path)
            last = found
        time.sleep(PERIOD_SECONDS)


if __name__ == "__main__":
    main()
