"""How workers and gateway of a resource are reached: the addresses that they listen on, the key that they ask for.

One key for both, since SMG sends to workers the key that it asks its clients for.
"""

import hashlib

from dopd.api.inference import DisaggregatedInferenceSpec, IpFamily
from dopd.api.names import API_KEY_VARIABLE, CONTROL_KEY_VARIABLE
from dopd.api.secrets import SecretKey
from dopd.workloads.meta import Manifest, Owner

_ALL_ADDRESSES = {IpFamily.IPV4: "0.0.0.0", IpFamily.IPV6: "::"}


def control_key(owner: Owner) -> str:
    """The key of the gateways' control plane where the spec names none: no client can tell it.

    Derived, so that it needs no Secret, and is the same for each operator and after each restart. Whoever may read the
    resource or its pods knows it.
    """
    return hashlib.sha256(f"dopd control plane of {owner.uid}".encode()).hexdigest()[:40]


def control_key_flag(owner: Owner, spec: DisaggregatedInferenceSpec) -> list[str]:
    """The flag of SMG that closes its control plane to all others: without it each client could change its workers."""
    key = f"$({CONTROL_KEY_VARIABLE})" if spec.router.control_key else control_key(owner)
    return ["--control-plane-api-keys", f"dopd:operator:admin:{key}"]


def control_key_variable(spec: DisaggregatedInferenceSpec) -> list[Manifest]:
    """The variable that holds the key of spec.router.controlKey, for a container's env."""
    return _variable(CONTROL_KEY_VARIABLE, spec.router.control_key)


def listening_host(spec: DisaggregatedInferenceSpec) -> str:
    """All addresses of the family of the cluster's pods. Each server listens on one family alone."""
    return _ALL_ADDRESSES[spec.ip_family]


def api_key_variable(spec: DisaggregatedInferenceSpec) -> list[Manifest]:
    """The variable that holds the key of spec.apiKey, for a container's env."""
    return _variable(API_KEY_VARIABLE, spec.api_key)


def api_key_flag(spec: DisaggregatedInferenceSpec) -> list[str]:
    """The flag of SGLang and SMG for that key; Kubernetes puts the value in as the container starts."""
    return ["--api-key", f"$({API_KEY_VARIABLE})"] if spec.api_key else []


def _variable(name: str, ref: SecretKey | None) -> list[Manifest]:
    return [{"name": name, "valueFrom": {"secretKeyRef": {"name": ref.name, "key": ref.key}}}] if ref else []
