"""A resource as the commands find it, planned by the real autoscaler, without a cluster."""

from datetime import UTC, datetime
from typing import Any

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.status import DisaggregatedInferenceStatus, RoleStatus
from dopd.autoscaler import Autoscaler, Sample
from dopd.cli.resource import Found
from dopd.perf import EngineModel
from dopd.planning import Demand, PerRole, Policy, Workers
from dopd.reconcile.queue import Key
from dopd.reconcile.reading import Reading
from dopd.reconcile.scaling import Planned
from dopd.reconcile.status import decision_status, load_and_plan
from dopd.replay.profiles import load_profile

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PROFILE = load_profile("llama-3.1-8b-h100")
ENGINE = EngineModel.from_profile(PROFILE)
DEMAND = Demand(50.0, 2000.0, 2 * 2000.0**2, 200.0, 1.0, 2 * 200.0**2)
LEADS = PerRole(60.0, 90.0)


def spec(**scaling: Any) -> DisaggregatedInferenceSpec:
    """A spec that scales."""
    return DisaggregatedInferenceSpec.model_validate(
        {
            "model": "meta-llama/Meta-Llama-3.1-8B",
            "engine": {"image": "lmsysorg/sglang:v0.5.23"},
            "prefill": {"gpus": 1},
            "decode": {"gpus": 1},
            "router": {"image": "smg:1.13.0"},
            "scaling": {
                "prefill": {"min": 1, "max": 20},
                "decode": {"min": 1, "max": 20},
                "profileRef": {"name": "llama-3.1-8b-h100"},
                **scaling,
            },
        }
    )


def planned(of: DisaggregatedInferenceSpec, demand: Demand = DEMAND) -> DisaggregatedInferenceStatus:
    """The status after the first plan for a load."""
    policy, loop = Policy.from_spec(of, NOW.timestamp(), LEADS), Autoscaler(forecaster=None)
    loop.observe(Sample(0.0, demand), ENGINE, policy)
    decision = loop.decide(PerRole(Workers(1), Workers(1)), 0.0, ENGINE, policy)
    reading = Reading(NOW.timestamp() - 40, demand, late_share=0.002)
    load, plan = load_and_plan(Planned(decision, reading, outlook=loop.outlook), 0.99, DisaggregatedInferenceStatus())

    def role(target: int) -> RoleStatus:
        return RoleStatus(desired=target, ready=target, summary=f"{target}/{target}")

    return DisaggregatedInferenceStatus(
        mode="Auto",
        prefill=role(decision.prefill),
        decode=role(decision.decode),
        load=load,
        plan=plan,
        gpus=decision.gpus,
        decisions=[decision_status(decision, "1+1", "2026-11-30T11:50:00Z")],
    )


def found(of: DisaggregatedInferenceSpec | None = None, **status: Any) -> Found:
    """A resource; `status` changes fields of it."""
    of = of or spec()
    whole = planned(of).model_copy(update=status)
    return Found(Key("shop", "llama"), {}, of, "", whole, dict.fromkeys(Role, PROFILE), ENGINE)
