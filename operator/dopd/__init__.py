"""dopd: a Kubernetes operator that keeps prefill and decode workers ahead of the load.

Layers, imports pointing down only (checked by import-linter)::

    cli                             the commands
    reconcile, replay               what runs: the loop of the operator, the simulated cluster
    telemetry                       I/O: Prometheus, engines, gateway
    cluster                         I/O: Kubernetes
    autoscaler                      pure: which load counts, and the decision
    planning, workloads, rollout    pure: a load to workers; a resource to manifests; which pod goes when
    perf                            pure: how fast one engine is
    api                             pure: the custom resources and the names they are known by
    engine_side                     what runs in the containers of engines; nothing here imports it
"""

__version__ = "0.1.0"
