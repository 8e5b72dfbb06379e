"""Process: the operator itself as it runs in a cluster, but that every port of a pod is the player's.

Usage: python -m e2e.scale.measured PORT ARGUMENTS-OF-dopd-run..., with KUBECONFIG. With SCALE_PROFILE=FILE what it
spends its time on is written there by cProfile, which makes it twice as slow.
"""

import cProfile
import os
import sys
from typing import Any

from dopd.cli import main
from dopd.cluster.podhttp import DirectPodHttp
from dopd.reconcile import runtime

PORT = int(sys.argv[1])


class Played(DirectPodHttp):
    """Pods whose every port is one."""

    async def _request(self, pod: Any, port: int, *arguments: Any) -> Any:
        return await super()._request(pod, PORT, *arguments)


setattr(runtime, "DirectPodHttp", Played)  # noqa: B010, for mypy it is not the module's own
setattr(runtime, "in_cluster", lambda: True)  # noqa: B010
arguments = ["run", *sys.argv[2:]]
profile = os.environ.get("SCALE_PROFILE")
if profile:
    profiler = cProfile.Profile()
    try:
        status = profiler.runcall(main, arguments)
    finally:
        profiler.dump_stats(profile)
else:
    status = main(arguments)
sys.exit(status)
