"""dopd: a Kubernetes operator that keeps prefill and decode workers ahead of the load.

Layers, imports pointing down only (checked by import-linter)::

    cli, reconcile, replay      what runs: commands, the loop of the operator, the simulated cluster
    cluster, telemetry          I/O: Kubernetes; Prometheus, engines, gateway
    planning, workloads         pure: demand to decisions; resource and targets to manifests
    perf                        pure: how fast one engine is
    api                         pure: the custom resources and the names they are known by
"""

__version__ = "0.1.0"
