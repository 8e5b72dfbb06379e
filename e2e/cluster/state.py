"""What is known of a cluster between commands: one JSON file in the cluster's own folder."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.paths import cluster_dir, clusters_dir

# Where load enters: the node port of each Service that tests and demos reach from outside the cluster.
NODE_PORTS = {"gateway": 30080, "prometheus": 30090, "spare": 30091}


@dataclass(frozen=True)
class State:
    """A cluster as recorded by the command that brought it up.

    Attributes:
        name: the name that the user gave.
        way: `published` or `built`: where the node image comes from.
        docker_host: DOCKER_HOST for reaching its nodes; empty for the client's default.
        ports: the port of 127.0.0.1 that leads to each of `NODE_PORTS`, by name.
        ready: it came up whole; False while it starts and after a failure.
        started: when each of `nodes` was started, as Docker says it. A node that has been started again since lacks
            its routes and may have another address, although it may look Ready for a while.
    """

    name: str
    way: str
    docker_host: str
    ports: dict[str, int]
    ready: bool
    started: list[str]

    @property
    def folder(self) -> Path:
        """The folder of this cluster's files."""
        return cluster_dir(self.name)

    @property
    def kubeconfig(self) -> Path:
        """Credentials of the cluster's administrator."""
        return self.folder / "kubeconfig"

    @property
    def kind_name(self) -> str:
        """The cluster's name in kind and of its Docker network; also the prefix of its nodes' names."""
        return kind_name(self.name)

    @property
    def control_plane(self) -> str:
        """The node that runs the API server."""
        return f"{self.kind_name}-control-plane"

    @property
    def workers(self) -> list[str]:
        """The nodes that run workloads and have GPUs."""
        return [f"{self.kind_name}-worker", f"{self.kind_name}-worker2"]

    @property
    def nodes(self) -> list[str]:
        """All nodes; each is a container of this name."""
        return [self.control_plane, *self.workers]

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        fields = dataclasses.asdict(self) | {"kubeconfig": str(self.kubeconfig), "nodes": self.nodes}
        partial = self.folder / "state.json.partial"
        partial.write_text(json.dumps(fields, indent=2) + "\n")
        partial.rename(self.folder / "state.json")


def kind_name(name: str) -> str:
    """Return the name of the cluster `name` in kind."""
    return f"dopd-{name}"


def load(name: str) -> State | None:
    """Return what is recorded of the cluster `name`; None when nothing is, or nothing that can be read."""
    try:
        fields = json.loads((cluster_dir(name) / "state.json").read_text())
        return State(**{field.name: fields[field.name] for field in dataclasses.fields(State)})
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None


def all_names() -> list[str]:
    """Return the names of all clusters that have a folder."""
    return sorted(path.name for path in clusters_dir().glob("*/") if path.is_dir())
