"""How workers and gateway of a resource are reached: the addresses that they listen on, the key that they ask for.

One key for both, since SMG sends to workers the key that it asks its clients for.
"""

import hashlib

from dopd.api.inference import DisaggregatedInferenceSpec, IpFamily
from dopd.api.names import API_KEY_VARIABLE
from dopd.workloads.meta import Manifest, Owner

_ALL_ADDRESSES = {IpFamily.IPV4: "0.0.0.0", IpFamily.IPV6: "::"}


def control_key(owner: Owner) -> str:
    """The key of the gateways' control plane: whoever may read the resource can tell it, and no client can.

    Derived, so that it needs no Secret, and is the same for each operator and after each restart.
    """
    return hashlib.sha256(f"dopd control plane of {owner.uid}".encode()).hexdigest()[:40]


def listening_host(spec: DisaggregatedInferenceSpec) -> str:
    """All addresses of the family of the cluster's pods. Each server listens on one family alone."""
    return _ALL_ADDRESSES[spec.ip_family]


def api_key_variable(spec: DisaggregatedInferenceSpec) -> list[Manifest]:
    """The variable that holds the key of spec.apiKey, for a container's env."""
    if spec.api_key is None:
        return []
    reference = {"name": spec.api_key.name, "key": spec.api_key.key}
    return [{"name": API_KEY_VARIABLE, "valueFrom": {"secretKeyRef": reference}}]


def api_key_flag(spec: DisaggregatedInferenceSpec) -> list[str]:
    """The flag of SGLang and SMG for that key; Kubernetes puts the value in as the container starts."""
    return ["--api-key", f"$({API_KEY_VARIABLE})"] if spec.api_key else []
