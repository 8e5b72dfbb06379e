"""Engines that change their role, for pods of a real API server.

As SGLang does, a decode engine remembers who was behind a bootstrap address: an engine that is prefill anew under an
address that was used before is not found.
"""

from typing import Any

from dopd.api.names import ROUTER_POOL

from .cluster import IDLE, Cluster, serves

Json = dict[str, Any]


class FlippingCluster(Cluster):
    """One node, with engines that answer `/pd_role_switch` and requests of a pair.

    Attributes:
        refusal: what engines say in place of a change; "" when they change.
        restorable: a refused engine serves on.
        mute: uids of pods whose requests of a pair are not answered.
        misled: requests of clients that went to an engine of another role, in words.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.refusal, self.restorable = "", True
        self.mute: set[str] = set()
        self.misled: list[str] = []
        self.changes: list[tuple[str, str]] = []
        self._roles: dict[str, str] = {}
        self._turns: dict[str, int] = {}
        self._known: dict[tuple[str, str, int], int] = {}

    def role(self, pod: Json) -> str:
        """What an engine does now; at its start it is what the pod's pool says."""
        return self._roles.setdefault(pod["metadata"]["uid"], pod["metadata"]["labels"]["dopd.dev/pool"])

    def turn(self) -> None:
        """Scheduler and kubelet, and a request of a client for each pair that a gateway would take."""
        super().turn()
        serving = [pod for pod in self.workers() if serves(pod)]
        for pod in serving:
            if self.role(pod) != pod["metadata"]["labels"]["dopd.dev/role"]:
                self.misled.append(f"{pod['metadata']['name']} is {self.role(pod)}")
        prefill, decode = ([p for p in serving if self.role(p) == role] for role in ("prefill", "decode"))
        for one in prefill:
            port = int(one["metadata"]["annotations"]["sglang.ai/bootstrap-port"])
            self.misled += [
                f"{other['metadata']['name']} does not find {one['metadata']['name']}"
                for other in decode
                if not self._finds(other, one, port)
            ]

    def end_engine(self, pod: Json, *, noticed: bool = False) -> None:
        """The next engine of a pod has other addresses; `noticed`: decode engines forget the one before."""
        super().end_engine(pod)
        uid = pod["metadata"]["uid"]
        self._turns[uid] = self._turns.get(uid, 0) + 1
        if noticed:
            self._known = {key: turn for key, turn in self._known.items() if key[1] != uid}

    async def get_json(self, pod: Json, port: int, path: str, *rest: Any) -> Any:
        """Loads tell the role."""
        if pod["metadata"]["labels"]["dopd.dev/pool"] == ROUTER_POOL:
            return await super().get_json(pod, port, path, *rest)
        return {"loads": [{**IDLE, "disaggregation": {"mode": self.role(pod)}}]}

    async def post_json(self, pod: Json, port: int, path: str, body: Any, timeout_seconds: float) -> tuple[int, Any]:
        """A change of the role, or one half of a request."""
        uid = pod["metadata"]["uid"]
        if path == "/pd_role_switch":
            assert not serves(pod), "it is asked only when it gets nothing new"
            if self.refusal:
                return 400, {"success": False, "message": self.refusal, "safe_to_restore": self.restorable}
            if not body["prepare_only"]:
                self._roles[uid] = body["new_role"]
                self._turns[uid] = self._turns.get(uid, 0) + 1
                self.changes.append((pod["metadata"]["name"], body["new_role"]))
            return 200, {"success": True, "message": "ok", "safe_to_restore": True}
        prefill = next(p for p in self.pods() if p.get("status", {}).get("podIP") == body["bootstrap_host"])
        other = pod if self.role(pod) == "decode" else None
        found = other is None or self._finds(other, prefill, body["bootstrap_port"])
        return (200, {}) if found and not self.mute & {uid, prefill["metadata"]["uid"]} else (500, {"message": "lost"})

    def _finds(self, decode: Json, prefill: Json, port: int) -> bool:
        turn = self._turns.get(prefill["metadata"]["uid"], 0)
        return self._known.setdefault((decode["metadata"]["uid"], prefill["metadata"]["uid"], port), turn) == turn
