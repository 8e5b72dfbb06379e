"""Every version that the harness pins, in one place.

The `go.mod` files under `build/` repeat some of them because Go reads its own file; a test holds the two equal.
"""

KUBERNETES = "v1.36.3"
KIND = "v0.33.0"
CONTAINERD = "v2.4.2"
COREDNS = "v1.14.2"
HELM = "v4.3.1"
ARGOCD = "v3.2.1"
KEDA = "v2.21.0"
KUEUE = "v0.17.0"
KWOK = "v0.8.0"

# Installed ones that will do: from the first, below the second. kubectl may be a minor older or newer than the API
# server; kind must know the node image; Helm 3.17 brought --take-ownership, by which a chart takes over what is there.
KIND_RANGE = ((0, 31), (1, 0))
HELM_RANGE = ((3, 17), (5, 0))
KUBECTL_RANGE = ((1, 35), (1, 38))

# What kubeadm of this Kubernetes asks for by tag (constants.DefaultEtcdVersion, constants.PauseVersion).
ETCD_IMAGE_TAG = "3.6.8-0"
PAUSE_IMAGE_TAG = "3.10.2"

# Published with kind v0.33.0 for this minor of Kubernetes; the digest makes it immutable.
PUBLISHED_NODE_IMAGE = "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed"
PUBLISHED_BASE_IMAGE = "python:3.11-slim-bookworm"
DEBIAN_RELEASE = "bookworm"

GATEWAY = "1.13.0"
SGLANG = "0.5.23"
PROMETHEUS = "2.42"
