"""What `dopd doctor` asks the API server: the definitions, the operator's Lease, the operator's rights."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dopd.api.base import API_VERSION, GROUP
from dopd.api.crds import build
from dopd.cluster import ApiError, Kubernetes, kinds
from dopd.cluster.kinds import Kind
from dopd.cluster.shards import OF_LABEL, shard_lease
from dopd.cluster.shares import shards_of_layout
from dopd.telemetry.selfcheck import Check, Verdict

Json = dict[str, Any]
APPLY = "kubectl apply --server-side --force-conflicts -f crds/, of the operator's version"


class Right(NamedTuple):
    """One thing that the operator must be allowed to do in the namespaces that it watches."""

    verb: str
    group: str
    resource: str
    subresource: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'/' if self.subresource else ''}{self.subresource}"


def _rights(kind: Kind, *verbs: str) -> list[Right]:
    return [Right(verb, kind.group, kind.plural) for verb in verbs]


RIGHTS = (
    *_rights(kinds.INFERENCE, "get", "list", "watch"),
    Right("patch", GROUP, kinds.INFERENCE.plural, "status"),
    *_rights(kinds.PROFILE, "get", "list", "watch"),
    *(
        right
        for kind in kinds.APPLIED_KINDS
        for right in _rights(kind, "get", "list", "watch", "create", "patch", "delete")
    ),
    *_rights(kinds.WORKER_SCALE, "get", "list", "watch", "create", "delete"),
    Right("patch", GROUP, kinds.WORKER_SCALE.plural, "status"),
    *_rights(kinds.POD, "get", "list", "watch", "create", "patch", "delete"),
    *_rights(kinds.REPLICA_SET, "list", "delete"),
    *_rights(kinds.LEADER_WORKER_SET, "list", "create", "patch", "delete"),
    *_rights(kinds.EVENT, "create"),
)
"""What the chart grants, but for the Lease."""


async def check_cluster(kubernetes: Kubernetes) -> Check:
    """Whether the API server answers."""
    try:
        version = await kubernetes.request("GET", "/version")
    except ApiError as error:
        fix = "Set KUBECONFIG to a cluster that answers, or run this in the operator's container"
        return Check("cluster", "API server", Verdict.FAIL, str(error), "an answer", fix)
    return Check("cluster", "API server", Verdict.OK, f"Kubernetes {version.get('gitVersion')}")


async def check_definitions(kubernetes: Kubernetes) -> AsyncIterator[Check]:
    """Whether the custom resources are served with the schema of this version."""
    try:
        # Published to everyone who may log in, unlike the definitions themselves.
        published = await kubernetes.request("GET", f"/openapi/v3/apis/{API_VERSION}")
        served = published["components"]["schemas"]
    except ApiError as error:
        found = f"{API_VERSION}: {error.status} {error.reason}"
        yield Check("cluster", "custom resources", Verdict.FAIL, found, "served", APPLY)
        return
    for definition in build().values():
        kind = definition["spec"]["names"]["kind"]
        ours = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        theirs = served.get(f"{'.'.join(reversed(GROUP.split('.')))}.{API_VERSION.partition('/')[2]}.{kind}", {})
        parts = {name: schema for name, schema in ours.items() if name in ("spec", "status")}
        found = next(_differences(parts, theirs.get("properties", {}), ""), "")
        if found:
            yield Check("cluster", kind, Verdict.FAIL, found, "the schema of this version", APPLY)
        else:
            yield Check("cluster", kind, Verdict.OK, f"served as {API_VERSION}, with the schema of this version")


def _differences(ours: Json, theirs: Json, path: str) -> Iterator[str]:
    """Fields that one schema has and the other has not, and fields with other rules."""
    for name, schema in ours.items():
        here = f"{path}.{name}".lstrip(".")
        if name not in theirs:
            yield f"{here} is not in the served schema"
            continue
        yield from _differences(schema.get("properties", {}), theirs[name].get("properties", {}), here)
        rest = [
            {k: v for k, v in side.items() if k not in ("properties", "description")} for side in (schema, theirs[name])
        ]
        if rest[0] != rest[1]:
            yield f"{here} has other rules in the served schema"
    for name in theirs:
        if path and name not in ours:
            yield f"{path}.{name} is in the served schema and not in this version"


async def find_lease(kubernetes: Kubernetes, namespace: str, name: str) -> Json | None:
    """The operator's Lease, in a namespace or, where that is not known, in any; None if there is none to be read."""
    try:
        if namespace:
            return await kubernetes.get(kinds.LEASE, namespace, name)
        query = {"fieldSelector": f"metadata.name={name}"}
        found = await kubernetes.request("GET", kinds.LEASE.path(None), query=query)
        return next(iter(found["items"]), None)
    except ApiError:
        return None


async def find_shards(kubernetes: Kubernetes, lease: Json | None) -> list[Json] | None:
    """The Leases of the operator's shards; empty where it has none, None where they can not be read."""
    if lease is None or _shards(lease) is None:
        return []
    meta = lease["metadata"]
    try:
        return await kubernetes.list(kinds.LEASE, meta["namespace"], f"{OF_LABEL}={meta['name']}")
    except ApiError:
        return None


def _shards(lease: Json) -> int | None:
    return shards_of_layout(str(lease.get("spec", {}).get("holderIdentity") or ""))


async def check_shards(kubernetes: Kubernetes, lease: Json | None, shards: Sequence[Json] | None) -> Check | None:
    """Whether each shard has a process that acts for its resources; None where there are no shards.

    Args:
        kubernetes: reads Leases that are old by our clock once more.
        lease: over all.
        shards: the Leases of the shards, as read at about this time; None where they can not be read.
    """
    count = _shards(lease) if lease else None
    if lease is None or count is None:
        return None
    if shards is None:
        return Check(
            "operator", "shards", Verdict.SKIPPED, f"Leases of {count} shards, not to be read with your rights"
        )
    meta, specs = lease["metadata"], _of_shards(lease, count, shards)
    now_seconds = datetime.now(UTC).timestamp()
    alone = [number for number, spec in enumerate(specs) if not _is_held(spec, now_seconds)]
    if alone:
        await asyncio.sleep(max(map(_duration_seconds, specs)) / 3)
        later = _of_shards(lease, count, await find_shards(kubernetes, lease) or [])
        alone = [number for number in alone if not _is_renewed(specs[number], later[number])]
        specs = later
    if not alone:
        holders = {spec["holderIdentity"] for spec in specs}
        told = f"{count} shards are held by {len(holders)} processes: {', '.join(sorted(holders))}"
        return Check("operator", "shards", Verdict.OK, told)
    names = ", ".join(shard_lease(meta["name"], number) for number in alone)
    fix = f"kubectl get pods,leases -n {meta['namespace']}: are the operator's pods ready? Read their logs"
    return Check(
        "operator", "shards", Verdict.FAIL, f"nobody acts for {names}", "a holder of each of these Leases", fix
    )


def _of_shards(lease: Json, count: int, shards: Sequence[Json]) -> list[Json]:
    """What is known of the Lease of each shard, by number."""
    by_name = {one["metadata"]["name"]: one.get("spec", {}) for one in shards}
    return [by_name.get(shard_lease(lease["metadata"]["name"], number), {}) for number in range(count)]


def _is_renewed(before: Json, later: Json) -> bool:
    """Whether somebody renewed a Lease meanwhile; no clock is asked."""
    return bool(later.get("holderIdentity")) and later.get("renewTime") != before.get("renewTime")


def _is_held(spec: Json, now_seconds: float) -> bool:
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return False
    return 0 <= _age_seconds(spec, now_seconds) <= 2 * _duration_seconds(spec)  # who takes over has that long


def _age_seconds(spec: Json, now_seconds: float) -> float:
    """Since a Lease was renewed, by our clock."""
    return now_seconds - datetime.fromisoformat(spec["renewTime"]).timestamp()


def _duration_seconds(spec: Json) -> float:
    return float(spec.get("leaseDurationSeconds", 15))


async def check_lease(kubernetes: Kubernetes, lease: Json | None, name: str) -> Check:
    """Whether an operator acts: it holds the Lease and renews it."""
    if lease is None:
        fix = "Is the operator installed? Name its namespace with --lease-namespace, and its release with --lease-name"
        return Check("operator", "Lease", Verdict.FAIL, f"no Lease {name} that can be read", "one", fix)
    spec, meta = lease.get("spec", {}), lease["metadata"]
    holder, where = spec.get("holderIdentity"), f"{meta['namespace']}/{meta['name']}"
    look = f"kubectl get pods -n {meta['namespace']}, and read their logs"
    if not holder:
        return Check("operator", "Lease", Verdict.FAIL, f"nobody holds {where}", "an operator that runs", look)
    duration, age = _duration_seconds(spec), _age_seconds(spec, datetime.now(UTC).timestamp())
    if 0 <= age <= duration:
        return Check("operator", "Lease", Verdict.OK, f"{holder} holds {where}, renewed {age:.0f} s ago")
    # Old by our clock: whether it is renewed is seen without any clock.
    await asyncio.sleep(duration / 3)
    later = await kubernetes.get(kinds.LEASE, meta["namespace"], meta["name"])
    if later and later.get("spec", {}).get("renewTime") != spec["renewTime"]:
        found = f"{holder} renews {where}, with a clock {-age:+.0f} s from ours"
        return Check("operator", "Lease", Verdict.FAIL, found, "the same time", "Set the clocks by NTP")
    found = f"{holder} holds {where} and renewed it last {age:.0f} s ago"
    return Check("operator", "Lease", Verdict.FAIL, found, f"at most {duration:.0f} s", look)


async def service_account(kubernetes: Kubernetes, lease: Json | None, shards: Sequence[Json] | None) -> str | None:
    """User name of the service account of the pod that holds the Lease, or a shard's; None if that is not known."""
    if lease is None:
        return None
    namespace = lease["metadata"]["namespace"]
    holders = [str(one.get("spec", {}).get("holderIdentity") or "") for one in (shards or [lease])]
    pod_name = next((holder.partition("_")[0] for holder in holders if holder), "")
    try:
        pod = await kubernetes.get(kinds.POD, namespace, pod_name) if pod_name else None
    except ApiError:
        return None
    return f"system:serviceaccount:{namespace}:{pod['spec']['serviceAccountName']}" if pod else None


async def check_rights(
    kubernetes: Kubernetes, namespaces: Sequence[str], lease: Json | None, account: str | None
) -> Check:
    """Whether the operator may do what it has to.

    Args:
        kubernetes: asked about itself, or about `account`.
        namespaces: that the operator watches; empty for all.
        lease: of the operator.
        account: user name of the operator's service account; None for whoever asks.
    """
    asked = [(right, {"namespace": namespace}) for right in RIGHTS for namespace in namespaces or ("",)]
    if lease:
        where = {"namespace": lease["metadata"]["namespace"], "name": lease["metadata"]["name"]}
        asked += [(right, where) for right in _rights(kinds.LEASE, "get", "update")]
    try:
        answers = await asyncio.gather(*(_allowed(kubernetes, right, where, account) for right, where in asked))
    except ApiError as error:
        return Check("operator", "rights", Verdict.SKIPPED, f"not to be asked with yours ({error.reason})")
    who = account or "whoever asks here"
    missing = [
        f"{right}{' in ' + where['namespace'] if where['namespace'] else ''}"
        for (right, where), allowed in zip(asked, answers, strict=True)
        if not allowed
    ]
    if not missing:
        return Check("operator", "rights", Verdict.OK, f"{who} may do all {len(asked)} things that the operator does")
    fix = "Apply the chart's Roles: helm template charts/dopd --show-only templates/rbac.yaml"
    return Check("operator", "rights", Verdict.FAIL, f"{who} may not {', '.join(missing)}", "all of it", fix)


async def _allowed(kubernetes: Kubernetes, right: Right, where: Json, account: str | None) -> bool:
    kind = "SubjectAccessReview" if account else "SelfSubjectAccessReview"
    spec: Json = {"resourceAttributes": {**right._asdict(), **where}}
    if account:
        spec["user"] = account
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    answer = await kubernetes.request("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body=body)
    return bool(answer["status"]["allowed"])
