"""The flags that say which cluster and namespace, as kubectl has them, and the connection that they lead to."""

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from kubernetes.aio import config

from dopd.cli.arguments import F, object_name, option, together
from dopd.cli.errors import Failed
from dopd.cluster import ApiError, Kubernetes
from dopd.cluster.client import in_cluster, own_namespace

T = TypeVar("T")


def _kubeconfig(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError(f"{text}: expected a kubeconfig file that exists")
    return text


def cluster_options(function: F) -> F:
    """`--kubeconfig` and `--context`."""
    return together(
        option(
            "--kubeconfig", of=_kubeconfig, metavar="FILE", help="of the cluster (default: KUBECONFIG, ~/.kube/config)"
        ),
        option("--context", metavar="NAME", help="of the kubeconfig (default: its current one)"),
    )(function)


def namespace_option(function: F) -> F:
    """`-n`."""
    told = "of the resource (default: that of the context)"
    made: F = option("-n", "--namespace", of=object_name, metavar="NAMESPACE", help=told)(function)
    return made


def _no_file(options: SimpleNamespace) -> str:
    """The kubeconfig that is looked for and does not exist; "" if one does, or none is needed."""
    if options.kubeconfig or (in_cluster() and not options.context):
        return ""
    told = os.environ.get("KUBECONFIG") or "~/.kube/config"
    return "" if any(Path(part).expanduser().is_file() for part in told.split(os.pathsep) if part) else told


async def connect(options: SimpleNamespace) -> Kubernetes:
    """Connect as the flags say.

    Raises:
        RuntimeError: there is no cluster to connect to.
    """
    if absent := _no_file(options):
        raise RuntimeError(f"no cluster: there is no kubeconfig {absent}; set KUBECONFIG or --kubeconfig to one")
    return await Kubernetes.connect(options.kubeconfig or "", options.context or "")


def namespace_of(options: SimpleNamespace) -> str:
    """The namespace that the flags name, else that of the context, else `default`."""
    if options.namespace:
        return str(options.namespace)
    if in_cluster() and not options.kubeconfig:
        return own_namespace()
    if _no_file(options):
        return "default"
    try:
        contexts, current = config.list_kube_config_contexts(options.kubeconfig or None)
    except (config.ConfigException, OSError, ValueError, TypeError):
        return "default"
    named = {one.get("name"): one for one in contexts}
    chosen = named.get(options.context, current) if options.context else current
    return str(((chosen or {}).get("context") or {}).get("namespace") or "default")


def run(asked: Coroutine[Any, Any, T]) -> T:
    """Ask a cluster.

    Raises:
        Failed: there is none, or it refuses.
    """
    try:
        return asyncio.run(asked)
    except RuntimeError as error:
        raise Failed(str(error)) from error
    except ApiError as error:
        fix = {
            0: "is the cluster up, and is this its kubeconfig (--kubeconfig, --context)?",
            401: "log in anew",
            403: "ask for the right, or name another namespace (-n)",
        }.get(error.status, "")
        raise Failed(f"the API server says: {error.message}" + (f"; {fix}" if fix else "")) from error
