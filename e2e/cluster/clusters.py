"""A cluster's life: up, down, and what is there. Every step can be repeated, also after one that was killed."""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from e2e.cluster import kind, nodes, state, versions
from e2e.cluster.cache import build_log
from e2e.cluster.daemon import docker_session, running_docker
from e2e.cluster.docker import NODE_LABEL, Docker
from e2e.cluster.errors import ClusterError
from e2e.cluster.locks import exclusive
from e2e.cluster.nodeimage import node_image
from e2e.cluster.paths import BUILD_FILES, cache_dir, cluster_dir
from e2e.cluster.ports import free_ports, require_free
from e2e.cluster.state import State
from e2e.cluster.steps import say

WAYS = ("auto", "published", "built")


def up(name: str, *, way: str = "auto") -> State:
    """Bring the cluster `name` up; leave it alone when it is up and well.

    Args:
        name: its name.
        way: `published` node image, `built` one, or `auto`: published when it can be pulled.

    Raises:
        ClusterError: it cannot be brought up; names the cause and the cure.
    """
    with _alone(name), _session(name) as docker:
        known = state.load(name)
        if known and known.ready and not _trouble(docker, known):
            say(f"cluster {name} is up")
            return known
        if known or cluster_dir(name).exists():
            _remove(docker, name)
        elif docker.containers(f"{NODE_LABEL}={state.kind_name(name)}"):
            raise ClusterError(
                f"Docker has nodes of a cluster {name} that is not recorded here (XDG_STATE_HOME of another run?): "
                f"choose another --name, or remove it with `python -m e2e.cluster down --name {name}`"
            )
        return _create(docker, name, way, known.ports if known else None)


def down(name: str) -> None:
    """Remove the cluster `name` with everything that belongs to it; do nothing when there is nothing."""
    with _alone(name):
        # A daemon is started only for what is recorded: without a record nothing can be running.
        if not cluster_dir(name).exists() and running_docker() is None:
            removed = False
        else:
            with _session(name) as docker:
                removed = _remove(docker, name)
    say(f"cluster {name} is gone" if removed else f"there is no cluster {name}")


def trouble(known: State) -> list[str]:
    """Return what keeps a recorded cluster from being usable, in words; nothing when it is well."""
    docker = running_docker(known.docker_host)
    if docker is None:
        return ["Docker does not answer"]
    return _trouble(docker, known)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    cluster_dir(name)  # refuses a bad name before it becomes a file
    with exclusive(cache_dir() / "locks" / f"cluster-{name}", waiting_for=f"it works on cluster {name}"):
        yield


def _session(name: str) -> AbstractContextManager[Docker]:
    known = state.load(name)
    return docker_session(known.docker_host if known else None)


def _trouble(docker: Docker, known: State) -> list[str]:
    running = docker.running(f"{NODE_LABEL}={known.kind_name}")
    stopped = [f"node {node} does not run" for node in known.nodes if node not in running]
    if stopped:
        return stopped
    if not known.ready:
        return ["it did not come up whole"]
    if docker.started(known.nodes) != known.started:
        return ["its nodes have been started again"]
    try:
        return nodes.not_ready(docker, known)
    except ClusterError as error:
        return [f"the API server does not answer: {error}"]


def _remove(docker: Docker, name: str) -> bool:
    """Remove what there is of a cluster; say whether there was anything."""
    recorded = cluster_dir(name).exists()
    containers = docker.containers(f"{NODE_LABEL}={state.kind_name(name)}")
    if containers:
        what = f"removing the nodes of cluster {name}"
        docker.run("rm", "--force", "--volumes", *containers, what=what, log=build_log("down"))
    network = state.kind_name(name)
    if network in docker.output("network", "ls", "--format", "{{.Name}}").split():
        docker.output("network", "rm", network)
    shutil.rmtree(cluster_dir(name), ignore_errors=True)
    return recorded or bool(containers)


def _create(docker: Docker, name: str, way: str, former_ports: dict[str, int] | None) -> State:
    image, way = _node_image(docker, way)
    ports = _choose_ports(former_ports)
    new = State(name=name, way=way, docker_host=docker.host, ports=ports, ready=False, started=[])
    new.save()
    shutil.copy(BUILD_FILES / "audit-policy.yaml", new.folder)
    kind.create(docker, new, image, log=new.folder / "logs" / "kind.log")
    new.kubeconfig.chmod(0o600)
    if way == "built":
        nodes.connect(docker, new)
    nodes.add_gpus(docker, new)
    nodes.wait_until_ready(docker, new)
    ready = dataclasses.replace(new, ready=True, started=docker.started(new.nodes))
    ready.save()
    say(f"cluster {name} is up")
    return ready


def _choose_ports(former: dict[str, int] | None) -> dict[str, int]:
    """Return a free host port for each node port: a cluster that is made again keeps its ports when they are free."""
    if former and former.keys() == state.NODE_PORTS.keys():
        try:
            for purpose, port in former.items():
                require_free(port, purpose=purpose)
        except ClusterError as error:
            say(f"{error}; taking others")
        else:
            return former
    return dict(zip(state.NODE_PORTS, free_ports(len(state.NODE_PORTS)), strict=True))


def _node_image(docker: Docker, way: str) -> tuple[str, str]:
    """Return the node image and the way (`published` or `built`) that it was come by."""
    if way == "built":
        return node_image(docker), "built"
    if docker.has_image(versions.PUBLISHED_NODE_IMAGE):
        return versions.PUBLISHED_NODE_IMAGE, "published"
    problem = docker.pull(versions.PUBLISHED_NODE_IMAGE)
    if not problem:
        return versions.PUBLISHED_NODE_IMAGE, "published"
    if way == "published":
        raise ClusterError(f"cannot pull {versions.PUBLISHED_NODE_IMAGE}: {problem}; --way=built makes one instead")
    say(f"the published node image cannot be had ({problem}): making one from package registries")
    return node_image(docker), "built"
