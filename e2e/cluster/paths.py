"""Where the harness keeps things: what can be made again under the cache, what belongs to a cluster under the state."""

import os
import re
from pathlib import Path

from e2e.cluster.errors import ClusterError

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD_FILES = Path(__file__).resolve().parent / "build"

# kind appends "-control-plane" and Kubernetes takes node names of at most 63 characters.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


def cache_dir() -> Path:
    """Return the folder of build outputs and of our Docker's data, shared by all clusters of this user."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def cluster_dir(name: str) -> Path:
    """Return the folder of the cluster `name`: kubeconfig, state.json, logs.

    Raises:
        ClusterError: `name` cannot be part of a node's name.
    """
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"cluster name {name!r}: expected up to 40 lower-case letters, digits and inner hyphens; "
            "choose another --name"
        )
    return clusters_dir() / name


def clusters_dir() -> Path:
    """Return the folder that holds one folder per cluster."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "clusters"


def _xdg(variable: str, default: str) -> Path:
    # The XDG specification tells programs to ignore a relative path.
    value = os.environ.get(variable, "")
    return (Path(value) if os.path.isabs(value) else Path.home() / default) / "dopd"
