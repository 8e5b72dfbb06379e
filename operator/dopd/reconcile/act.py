"""Acting: the children of a resource but its workers, by server-side apply.

What fails is told and does not keep the rest from being done. A child that was refused is not sent again before a pause
is over, unless its manifest changed: nothing else here makes another answer likely.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from dopd.api.conditions import ConditionReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import ROUTER_POOL
from dopd.cluster import ApiError, Applier, Kubernetes, kinds
from dopd.cluster.backoff import Backoff
from dopd.reconcile.observe import Observed, belongs
from dopd.reconcile.pods import Trouble
from dopd.reconcile.queue import Key
from dopd.reconcile.refusals import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, failed, refusal, taken
from dopd.workloads import Targets
from dopd.workloads.children import Child, child_builders
from dopd.workloads.refusal import Refusal
from dopd.workloads.router import Gateway

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]
_Name = tuple[str, str]


@dataclass(frozen=True)
class _Refused:
    """A manifest that was refused, and what was said."""

    digest: str
    trouble: Trouble


class Actor:
    """Writes to the cluster for one reconciler.

    Args:
        kubernetes: where to.
        clock: monotonic seconds.
        closed: the gateways' control plane asks for a key.
    """

    def __init__(
        self, kubernetes: Kubernetes, clock: Callable[[], float] = time.monotonic, *, closed: bool = True
    ) -> None:
        self._kubernetes, self._closed = kubernetes, closed
        self._applier = Applier(kubernetes)
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, clock)
        self._refused: dict[Key, dict[_Name, _Refused]] = {}

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._applier.forget(key.namespace, key.name)
        for name in self._refused.pop(key, {}):
            self._pauses.succeeded((key, name))

    def seconds_until_retry(self, key: Key) -> float | None:
        """Time until a refused child is sent again; None when none was refused."""
        return min((self._pauses.seconds_left((key, name)) for name in self._refused.get(key, {})), default=None)

    async def apply(
        self,
        observed: Observed,
        spec: DisaggregatedInferenceSpec,
        targets: Targets,
        gateways: Sequence[Gateway],
        scheduling: Callable[[], Json],
        kept: Collection[_Name] = (),
    ) -> list[Trouble]:
        """Write the children that differ, delete those that are not wanted any more; returns what failed.

        Args:
            observed: the look at the cluster.
            spec: of the resource.
            targets: workers that should serve.
            gateways: those that there should be.
            scheduling: makes the ConfigMap with the settings of the order of prompts.
            kept: children by kind and name that somebody else writes.
        """
        children = child_builders(observed.owner, spec, targets, gateways, scheduling, closed=self._closed)
        troubles = [trouble for child in children if (trouble := await self._write(observed, child))]
        wanted = {(child.kind, child.name) for child in children} | set(kept)
        for name, live in observed.children.items():
            if name not in wanted:
                try:
                    await self._delete(live)
                except ApiError as error:
                    troubles.append(Trouble(ConditionReason.API_FAILED, f"{' '.join(name)}: {error.message}"))
        return troubles

    async def replace(self, observed: Observed, gateways: Collection[str]) -> list[Trouble]:
        """Delete gateway pods by name, so that their Deployments start others; returns what failed."""
        troubles = []
        for pod in observed.pods[ROUTER_POOL]:
            meta = pod["metadata"]
            if meta["name"] not in gateways:
                continue
            _LOG.warning("delete pod %s/%s: it lists others than it should", meta["namespace"], meta["name"])
            try:
                await self._kubernetes.delete(kinds.POD, meta["namespace"], meta["name"], meta["uid"])
            except ApiError as error:
                troubles.append(Trouble(ConditionReason.API_FAILED, f"Pod {meta['name']}: {error.message}"))
        return troubles

    async def _write(self, observed: Observed, child: Child) -> Trouble | None:
        refused = self._refused.setdefault(Key(observed.owner.namespace, observed.owner.name), {})
        before = refused.pop((child.kind, child.name), None)
        try:
            manifest = child.build()
            outcome = await self._apply(observed, manifest, before)
            if isinstance(outcome, _Refused):
                refused[child.kind, child.name] = outcome
            trouble = outcome.trouble if isinstance(outcome, _Refused) else outcome
        except Refusal as fault:
            trouble = Trouble(ConditionReason.SPEC_REFUSED, f"{child.kind} {child.name} stays as it is: {fault}")
        except ApiError as error:
            trouble = Trouble(ConditionReason.API_FAILED, f"{child.kind} {child.name}: {error.message}")
        except Exception as error:
            _LOG.exception("%s: %s %s", observed.owner, child.kind, child.name)
            trouble = failed(f"{child.kind} {child.name}", error)
        return trouble

    async def _apply(self, observed: Observed, manifest: Json, before: _Refused | None) -> _Refused | Trouble | None:
        owner = observed.owner
        live = observed.child(manifest) or await self._by_name(manifest)
        if live and not belongs(live, owner):
            controller = kinds.controller(live)
            if kinds.is_ours(controller, owner.name):
                # Of an earlier resource of this name: garbage collection is about to take it, so it can not be ours.
                await self._delete(live)
                return None
            return taken(f"{manifest['kind']} {manifest['metadata']['name']}")
        child = (Key(owner.namespace, owner.name), (manifest["kind"], manifest["metadata"]["name"]))
        if before is None or before.digest != _digest(manifest):
            self._pauses.succeeded(child)
        elif self._pauses.seconds_left(child):
            return before
        try:
            await self._applier.apply(manifest, live)
        except ApiError as error:
            self._pauses.failed(child)
            return _Refused(_digest(manifest), refusal(f"{manifest['kind']} {manifest['metadata']['name']}", error))
        self._pauses.succeeded(child)
        return None

    async def _by_name(self, manifest: Json) -> Json | None:
        """The object that has a child's name without its labels: a stranger's, or ours with the labels taken off."""
        meta = manifest["metadata"]
        found = await self._kubernetes.get(kinds.kind_of(manifest), meta["namespace"], meta["name"])
        return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], **found} if found else None

    async def _delete(self, child: Json) -> None:
        meta = child["metadata"]
        _LOG.info("delete %s %s/%s", child["kind"], meta["namespace"], meta["name"])
        await self._kubernetes.delete(kinds.kind_of(child), meta["namespace"], meta["name"], meta["uid"])


def _digest(manifest: Json) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
