"""A control plane with nodes and pods that kwok plays, the player, and the operator as a process."""

import asyncio
import base64
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from dopd.cluster import kinds
from e2e.cluster import programs
from e2e.cluster.controlplane import ControlPlane, control_plane
from e2e.cluster.errors import ClusterError
from e2e.cluster.ports import free_ports
from e2e.cluster.steps import leashed, say, tail
from e2e.scale import sizes
from e2e.scale.audit import Audit
from e2e.scale.processes import Used, used

Json = dict[str, Any]
USER = "dopd-measured"
AT_ONCE = 100
OF_IMAGE = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
"""What the operator's image sets: without the first, each of its threads may keep memory for itself."""
POD_ADDRESSES = "127.64.0.1/10"
MERGE = {"Content-Type": "application/merge-patch+json"}
CRDS = Path(__file__).parents[2] / "crds"
STAGES = Path(__file__).parent / "stages.yaml"


class Field:
    """What a run is measured on.

    Attributes:
        plane: the control plane.
        audit: what the operator asked of it.
        player_port: of the player.
    """

    def __init__(self, plane: ControlPlane, size: int, workers: int, namespaces: int) -> None:
        self.plane, self.workers = plane, workers
        self.names = sizes.names(size, namespaces)
        self.audit = Audit(plane.audit_log, USER)
        self.player_port, self._http_port = free_ports(2)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._trust, self._url = _credentials(plane.kubeconfig)
        self.client = httpx.Client(base_url=self._url, verify=self._trust, trust_env=False, timeout=60)

    def make_ground(self) -> None:
        """Definitions, a node, namespaces with a profile, and what is played."""
        self.plane.kubectl("apply", f"--filename={CRDS}")
        self.plane.kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=60s")
        for kind in (kinds.INFERENCE, kinds.PROFILE, kinds.WORKER_SCALE):
            path = kind.path(None)
            wait_until(lambda path=path: self.client.get(path).status_code == 200, f"{path} is served")  # type: ignore[misc]
        kwok = [programs.kwok() / "kwok", f"--kubeconfig={self.plane.kubeconfig}", "--manage-all-nodes=true"]
        self._start(
            "kwok", [*kwok, f"--cidr={POD_ADDRESSES}", f"--config={STAGES}", "--node-lease-duration-seconds=40"]
        )
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "played"}}
        self.client.post("/api/v1/nodes", json=node).raise_for_status()
        for namespace in sorted({namespace for namespace, _ in self.names}):
            made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            self.client.post("/api/v1/namespaces", json=made).raise_for_status()
            self.client.post(kinds.PROFILE.path(namespace), json=sizes.profile()).raise_for_status()
        namespaces = len({namespace for namespace, _ in self.names})
        arguments = [self.player_port, namespaces, len(self.names), self.workers]
        self._start("player", [sys.executable, "-m", "e2e.scale.player", *map(str, arguments)])
        wait_until(lambda: bool(self.asked() is not None), "the player answers")

    def start_operator(self, arguments: list[str], environment: dict[str, str]) -> None:
        """Start the operator as the user that is measured."""
        self._operate("operator", ["-m", "e2e.scale.measured", str(self.player_port), *arguments], environment)

    def start_floor(self) -> None:
        """Start the operator that does nothing, as another user."""
        self._operate("floor", ["-m", "e2e.scale.floor"], {})

    def _operate(self, name: str, words: list[str], environment: dict[str, str]) -> None:
        user = USER if name == "operator" else "floor"
        kubeconfig = self.plane.kubeconfig_for(user, groups=["system:masters"])
        self._start(name, [sys.executable, *words], {"KUBECONFIG": str(kubeconfig), **OF_IMAGE, **environment})

    def operator_arguments(self) -> list[str]:
        """Of `dopd run`."""
        return ["--http-port", str(self._http_port), "--lease-namespace", "default", "--lease-seconds", "60"]

    def _start(self, name: str, command: list[Any], environment: dict[str, str] | None = None) -> None:
        with self.plane.log_of(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                leashed(command, "TERM"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "KUBECONFIG": str(self.plane.kubeconfig), **(environment or {})},
            )

    def end(self, name: str) -> None:
        """Ask a process to end, and wait for it."""
        process = self._processes.pop(name)
        process.terminate()
        process.wait(timeout=60)

    def close(self) -> None:
        """End all processes."""
        for name in list(self._processes):
            self.end(name)
        self.client.close()

    def used(self, name: str = "operator") -> Used:
        """What the process has used.

        Raises:
            ClusterError: it ended.
        """
        process = self._processes[name]
        if process.poll() is not None:
            raise ClusterError(f"{name} ended with status {process.returncode}\n{tail(self.plane.log_of(name))}")
        return used(process.pid)

    def asked(self) -> Json | None:
        """What the player was asked so far; None while it does not answer."""
        try:
            answer: Json = httpx.get(f"http://127.0.0.1:{self.player_port}/counts", trust_env=False, timeout=30).json()
            return answer
        except httpx.HTTPError:
            return None

    def metrics(self) -> dict[str, float]:
        """The operator's own metrics that have no labels but those of a stage or an outcome."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self._http_port}/metrics", trust_env=False, timeout=60).text
        except httpx.HTTPError:
            return {}
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs if "namespace=" not in name}

    def create_all(self, interval_seconds: int, queue_seconds: int) -> None:
        """Create the resources, a hundred at a time, each such lot once the one before is ready."""
        url = f"http://127.0.0.1:{self.player_port}"
        for first in range(0, len(self.names), AT_ONCE):
            lot = self.names[first : first + AT_ONCE]
            bodies = [sizes.manifest(name, self.workers, url, interval_seconds, queue_seconds) for _, name in lot]
            paths = [kinds.INFERENCE.path(namespace) for namespace, _ in lot]
            asyncio.run(self._all("POST", paths, bodies))
            self._wait_ready(first + len(lot))

    def _wait_ready(self, count: int) -> None:
        wait_until(lambda: self.ready() >= count, f"{count} are ready", 1200)
        say(f"{count} of {len(self.names)} resources are ready")

    def change_all(self, spec: Json) -> None:
        """Change all resources at once."""
        paths = [kinds.INFERENCE.path(*name) for name in self.names]
        asyncio.run(self._all("PATCH", paths, [{"spec": spec}] * len(paths)))

    async def _all(self, method: str, paths: list[str], bodies: list[Json]) -> None:
        limits, gate = httpx.Limits(max_connections=AT_ONCE), asyncio.Semaphore(AT_ONCE)
        async with httpx.AsyncClient(
            base_url=self._url, verify=self._trust, trust_env=False, timeout=120, limits=limits
        ) as client:

            async def one(path: str, body: Json) -> None:
                async with gate:
                    headers = MERGE if method == "PATCH" else {}
                    (await client.request(method, path, json=body, headers=headers)).raise_for_status()

            await asyncio.gather(*map(one, paths, bodies))

    def ready(self) -> int:
        """Resources that are ready as they are now."""
        count, query = 0, {"limit": "250"}
        while True:
            page = self.client.get(kinds.INFERENCE.path(None), params=query).raise_for_status().json()
            count += sum(map(_is_ready, page["items"]))
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return count


def _is_ready(resource: Json) -> bool:
    status = resource.get("status", {})
    current = status.get("observedGeneration") == resource["metadata"]["generation"]
    return current and any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))


def _credentials(kubeconfig: Path) -> tuple[ssl.SSLContext, str]:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile("wb") as pem:
        pem.write(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
        pem.flush()
        context.load_cert_chain(pem.name)
    return context, cluster["server"]


def wait_until(check: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it did not in time.
    """
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(1.0)


@contextmanager
def field(size: int, workers: int, namespaces: int) -> Iterator[Field]:
    """A field of so many resources with so many workers of each role; gone afterwards."""
    with control_plane(audit=True, scheduler=True) as plane:
        made = Field(plane, size, workers, namespaces)
        try:
            made.make_ground()
            yield made
        finally:
            made.close()
