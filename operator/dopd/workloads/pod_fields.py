"""What the Kubernetes API says of a pod template's lists and unions. Pure data.

From the published OpenAPI of Kubernetes 1.36 (`x-kubernetes-list-map-keys` of io.k8s.api.core.v1.PodTemplateSpec); a
test compares the tables with what a real API server serves. Paths leave out the positions in lists.
"""

from collections.abc import Iterator, Mapping

_CONTAINER_LISTS = ("spec.containers", "spec.initContainers", "spec.ephemeralContainers")
_HANDLERS = frozenset({"exec", "grpc", "httpGet", "tcpSocket"})
_HOOKS = frozenset({"exec", "httpGet", "sleep", "tcpSocket"})
_VALUE_SOURCES = frozenset({"configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef"})
_OF_VOLUMES = frozenset({
    "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "configMap", "csi", "downwardAPI", "emptyDir",
    "ephemeral", "fc", "flexVolume", "flocker", "gcePersistentDisk", "gitRepo", "glusterfs", "hostPath", "image",
    "iscsi", "nfs", "persistentVolumeClaim", "photonPersistentDisk", "portworxVolume", "projected", "quobyte", "rbd",
    "scaleIO", "secret", "storageos", "vsphereVolume",
})  # fmt: skip


def _keys() -> Iterator[tuple[str, tuple[str, ...]]]:
    for containers in _CONTAINER_LISTS:
        yield containers, ("name",)
        yield f"{containers}.env", ("name",)
        yield f"{containers}.ports", ("containerPort", "protocol")
        yield f"{containers}.resources.claims", ("name",)
        yield f"{containers}.volumeDevices", ("devicePath",)
        yield f"{containers}.volumeMounts", ("mountPath",)
    yield "metadata.ownerReferences", ("uid",)
    yield "spec.hostAliases", ("ip",)
    yield "spec.imagePullSecrets", ("name",)
    yield "spec.resourceClaims", ("name",)
    yield "spec.resources.claims", ("name",)
    yield "spec.schedulingGates", ("name",)
    yield "spec.topologySpreadConstraints", ("topologyKey", "whenUnsatisfiable")
    yield "spec.volumes", ("name",)
    yield "spec.volumes.ephemeral.volumeClaimTemplate.metadata.ownerReferences", ("uid",)


def _unions() -> Iterator[tuple[str, frozenset[str]]]:
    for containers in _CONTAINER_LISTS:
        yield f"{containers}.env", frozenset({"value", "valueFrom"})
        yield f"{containers}.env.valueFrom", _VALUE_SOURCES
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            yield f"{containers}.{probe}", _HANDLERS
        for hook in ("postStart", "preStop"):
            yield f"{containers}.lifecycle.{hook}", _HOOKS
    yield "spec.volumes", _OF_VOLUMES


LIST_KEYS: Mapping[str, tuple[str, ...]] = dict(_keys())
"""The fields by which the items of a list are told apart; a list that is not here is replaced whole."""

UNIONS: Mapping[str, frozenset[str]] = dict(_unions())
"""Fields of which an object has one at most: another one takes the place of the one before."""

KEY_DEFAULTS = {"protocol": "TCP"}
"""What a key is where it is left out."""
