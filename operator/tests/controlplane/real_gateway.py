"""A node on this machine: pods of a real API server whose gateways are SMG and whose engines are simulated ones.

Each pod has a loopback address of its own. SMG finds the engines by its own service discovery.
"""

import contextlib
import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dopd.api.names import ENGINE_PORT, ROLE_LABEL, ROUTER_METRICS_PORT, ROUTER_POOL, ROUTER_PORT, Role
from dopd.cluster.podhttp import DirectPodHttp
from e2e.cluster.ports import LOOPBACK
from e2e.sglang.fleet import Fleet, Server
from e2e.sglang.install import gateway_command

from .cluster import MERGE, Cluster, is_ready

Json = dict[str, Any]
STARTUP_SECONDS = {Role.PREFILL: 4.0, Role.DECODE: 0.1}
"""Decode is there first: the harder case for who answers meanwhile."""
LOOK_SECONDS = 0.2


class OnThisMachine(DirectPodHttp):
    """The operator's way to pods; gateways have free ports in place of theirs.

    Attributes:
        ports: those of each gateway pod, by its name and the port that its pod says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[tuple[str, int], int] = {}

    async def _request(self, pod: Json, port: int, path: str, query: Any, body: Any = None, *more: Any) -> Any:
        there = self.ports.get((pod["metadata"]["name"], port), port)
        if body and "url" in body:  # a gateway's own address
            body = {**body, "url": body["url"].replace(f":{port}", f":{there}")}
        return await super()._request(pod, there, path, query, body, *more)

    async def get_json(self, pod: Json, port: int, path: str, query: Any = None) -> Any:
        answer = await super().get_json(pod, port, path, query)
        there = self.ports.get((pod["metadata"]["name"], port))
        for worker in answer.get("workers", []) if there else []:
            worker["url"] = worker["url"].replace(f"{LOOPBACK}:{there}", f"{LOOPBACK}:{port}")
        return answer


class Machine(Cluster):
    """The node; close it, else what runs goes on.

    Attributes:
        empty: what the gateway answers a client before anybody has told it anything.
    """

    def __init__(self, api: httpx.Client, namespace: str, gpus: int, kubeconfig: Path) -> None:
        super().__init__(api, namespace, gpus)
        self.http, self.empty = OnThisMachine(), ""
        self._fleet, self._kubeconfig = Fleet(), kubeconfig
        self._servers: dict[str, Server] = {}
        pid = os.getpid()
        self._network = f"127.{pid % 200 + 20}.{pid // 200 % 250}"  # runs beside each other have their own
        # What the operator asks pods, it asks these.
        self.get_json, self.get_text = self.http.get_json, self.http.get_text  # type: ignore[method-assign]
        self.post_json, self.write_json = self.http.post_json, self.http.write_json

    async def aclose(self) -> None:
        """End what runs."""
        self._fleet.close()
        await self.http.close()

    @property
    def url(self) -> str:
        """Where clients reach the gateway."""
        [(name, _)] = [key for key in self.http.ports if key[1] == ROUTER_PORT]
        return f"http://{LOOPBACK}:{self.http.ports[name, ROUTER_PORT]}"

    def turn(self) -> None:
        super().turn()
        there = {pod["metadata"]["name"]: pod for pod in self.pods()}
        for gone in self._servers.keys() - there.keys():
            self._servers.pop(gone).stop()
        for name in self._servers:
            self._probe(there[name])

    def _run(self, pod: Json) -> None:
        meta, command = pod["metadata"], pod["spec"]["containers"][0]["command"]
        if meta["labels"]["dopd.dev/pool"] == ROUTER_POOL:
            address, server = LOOPBACK, self._gateway(meta["name"], command)
        else:
            address = f"{self._network}.{next(self._addresses)}"
            server = self._engine(Role(meta["labels"]["dopd.dev/pool"]), address)
        self._servers[meta["name"]] = server
        told = {"name": pod["spec"]["containers"][0]["name"], "image": "i", "imageID": "", "ready": False}
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": meta["creationTimestamp"],
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{**told, "restartCount": 0}],
        }
        path = self._path(pod, "status")
        self._api.patch(path, json={"status": status}, headers=MERGE).raise_for_status()

    def _gateway(self, name: str, command: list[str]) -> Server:
        flags = list(command[2:])
        for flag, port in (("--port", ROUTER_PORT), ("--prometheus-port", ROUTER_METRICS_PORT)):
            self.http.ports[name, port] = self._fleet.port()
            flags[flags.index(flag) + 1] = str(self.http.ports[name, port])
        for flag in ("--host", "--prometheus-host"):
            flags[flags.index(flag) + 1] = LOOPBACK
        environment = {"KUBECONFIG": str(self._kubeconfig), "NO_PROXY": "*", "no_proxy": "*"}
        whole = [*gateway_command(), "launch", *flags]
        server = self._fleet.launch("gateway", whole, url=self.url, ready="/liveness", environment=environment)
        server.wait_until_ready()
        client = Client(self.url)
        client.ask()
        [self.empty] = client.answers
        return server

    def _engine(self, role: Role, address: str) -> Server:
        command = [
            sys.executable, "-m", "dopd_simulator", "--host", address, "--port", str(ENGINE_PORT),
            "--disaggregation-mode", role, "--model-path", "demo",
            "--sim-startup-seconds", str(STARTUP_SECONDS[role]),
        ]  # fmt: skip
        return self._fleet.launch(role, command, url=f"http://{address}:{ENGINE_PORT}", ready="/ready", environment={})

    def _probe(self, pod: Json) -> None:
        name = pod["metadata"]["name"]
        if name not in self._servers or "deletionTimestamp" in pod["metadata"]:
            return
        path = "/readiness" if pod["metadata"]["labels"]["dopd.dev/pool"] == ROUTER_POOL else "/ready"
        ready = False
        with contextlib.suppress(httpx.HTTPError):
            ready = httpx.get(f"{self._servers[name].url}{path}", trust_env=False, timeout=5).status_code == 200
        if ready != is_ready(pod):
            self._tell(pod, ready=ready, statuses=[{**pod["status"]["containerStatuses"][0], "ready": ready}])

    def listed(self, gateway: Json) -> list[Json]:
        """Workers that the gateway itself says that it sends to."""
        command = gateway["spec"]["containers"][0]["command"]
        key = command[command.index("--control-plane-api-keys") + 1].split(":")[-1]
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.get(f"{self.url}/workers", headers=headers, trust_env=False, timeout=10).raise_for_status()
        there = [w for w in answer.json()["workers"] if w["status"] == "ready"]
        urls = {worker["url"] for worker in there}
        return [
            pod
            for pod in self.workers()
            if ROLE_LABEL in pod["metadata"]["labels"]
            and f"http://{pod.get('status', {}).get('podIP')}:{ENGINE_PORT}" in urls
        ]


@dataclass
class Client:
    """Asks a gateway for an answer of four tokens, over and over in a thread of its own once it is entered.

    Attributes:
        answers: what it got, each "whole", "503, come again", or what else it was.
    """

    url: str
    answers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def ask(self) -> None:
        """One request, on a connection of its own."""
        body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        body["ignore_eos"] = True
        try:
            answer = httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60, trust_env=False)
        except httpx.HTTPError as error:
            self.answers.append(type(error).__name__)
            return
        if answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] == 4:
            self.answers.append("whole")
        elif answer.status_code == 503 and answer.headers.get("retry-after", "").isdigit():
            self.answers.append("503, come again")
        else:
            self.answers.append(f"{answer.status_code} {answer.headers.get('x-smg-error-code')}")

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.ask()
            self._stop.wait(LOOK_SECONDS)
