"""Names that two or more parts must agree on: labels, annotations, ports, the field manager.

The label `dopd.dev/role` is the switchboard: the gateway serves a worker in the role that the label says, and a worker
without it gets no new request. `dopd.dev/pool` says what its engine is: it changes only when a running engine has
changed its role (spec.roleSwitching), and then metrics, queries and a restarted container follow it.
"""

from enum import StrEnum

from dopd.api.base import GROUP


class Role(StrEnum):
    """What a worker does for a request."""

    PREFILL = "prefill"
    DECODE = "decode"

    @property
    def other(self) -> "Role":
        """The one that is not this."""
        return Role.DECODE if self is Role.PREFILL else Role.PREFILL


ROLES: frozenset[str] = frozenset(Role)
"""To see whether a text names a role: to go through an enumeration takes fifty times as long."""

FIELD_MANAGER = "dopd"
"""The one writer of the children (server-side apply)."""

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE = "dopd"
CHILD_SELECTOR = f"{MANAGED_BY}={MANAGED_BY_VALUE}"

INSTANCE_LABEL = f"{GROUP}/instance"
"""Name of the DisaggregatedInference that a child belongs to."""

POOL_LABEL = f"{GROUP}/pool"
"""What a pod is: prefill, decode or router. That of a worker changes when its engine has changed its role."""

LAUNCH_LABEL = f"{GROUP}/launched-as"
"""On workers that may change their role: what they were made as."""

ROLE_LABEL = f"{GROUP}/role"
"""What the gateway may use a worker for at this moment. Absent: nothing new (draining)."""

SERVING_LABEL = f"{GROUP}/serving"
"""On workers that a gateway has listed as ready, until they drain: what an eviction may not take the last of."""

ROUTER_POOL = "router"

DRAINING_SINCE = f"{GROUP}/draining-since"
"""Annotation on a pod: when its role label was taken off (RFC 3339)."""

FLIP_TO = f"{GROUP}/flip-to"
"""Annotation on a pod: the role that it is on its way to, from the loss of its label until it serves in that role."""

KEEPS_ROLE = f"{GROUP}/keeps-role"
"""Annotation on a pod: why its engine refused to change its role; it is not asked again."""

PROVING = f"{GROUP}/proving"
"""Annotation on a prefill pod without its role label: its engine began anew, as often as it says, and must answer with
each partner before it serves again."""

PROVED = f"{GROUP}/proved"
"""Annotation on a prefill pod: how often its engine had begun anew when it was proved last; absent: not once."""

BOOTSTRAP_PORT_ANNOTATION = "sglang.ai/bootstrap-port"
"""Read by the gateway when it registers a prefill worker (SMG, service discovery)."""

REVISION_LABEL = f"{GROUP}/revision"
"""Names the template that a worker was made from, in its pool: of one whose engine has changed its role, what it counts
as there. Gateways go by it. Absent on workers that a Deployment made."""

GPUS_ANNOTATION = f"{GROUP}/gpus"
"""GPUs that a worker holds."""

DOMAIN_LABEL = f"{GROUP}/domain"
"""On workers and gateways of a resource with spec.topology.domains: the domain that they are of."""

DOMAIN_KEY_ANNOTATION = f"{GROUP}/domain-key"
"""On workers with a domain: the label of nodes that it is a value of, or `KEY (Preferred)`."""
OWNER_ANNOTATION = f"{GROUP}/owner-uid"
"""On pods that a LeaderWorkerSet made: uid of the DisaggregatedInference that they serve."""

LEADER_ANNOTATION = f"{GROUP}/leader-uid"
"""On a LeaderWorkerSet: uid of the leader that was seen last, so that a group that was made anew is known as one."""

REMADE_ANNOTATION = f"{GROUP}/remade"
"""On a LeaderWorkerSet: how often its pods were made anew since it served last."""

ENGINE_PORT = 30000
BOOTSTRAP_PORT = 8998
RENDEZVOUS_PORT = 20000
ROUTER_PORT = 8000
ROUTER_METRICS_PORT = 29000

ENGINE_PORT_NAME = "http"
BOOTSTRAP_PORT_NAME = "bootstrap"
"""Names of the ports of a worker: PodMonitors go by them, and so does whoever looks for the number in a pod."""

WORKER_PORTS_ANNOTATION = "smg.ai/worker-ports"
"""Read by the gateway: the engine's port, where it is not the one that the gateway was told for all (SMG)."""

ROLE_VARIABLE = "DOPD_ROLE"
"""Holds `dopd.dev/pool` in workers that may change their role, so that a restarted container is what the label says."""

BOOTSTRAP_TURNS = 64
"""Ports beyond the bootstrap port at which a worker that may change its role is reached as well, one for each turn."""
CONTROL_KEY_VARIABLE = "DOPD_CONTROL_KEY"
"""Holds the key of spec.router.controlKey in gateways; their command refers to it."""

API_KEY_VARIABLE = "DOPD_API_KEY"
"""Holds the key of spec.apiKey in workers and gateways; their command refers to it."""

ENGINE_CONTAINER = "engine"
ROUTER_CONTAINER = "router"
