"""What is played: a trace, at a speed, on a resource whose manifests are written for that speed."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.profile import EngineProfileSpec
from dopd.perf import EngineModel
from dopd.planning import Policy
from e2e.demo import fitting
from e2e.load import Objectives, Schedule, TraceError, read_trace
from e2e.stack import MANIFESTS

TRACES = MANIFESTS.parent / "load" / "traces"


@dataclass(frozen=True)
class Scenario:
    """One story that the demo can tell.

    Attributes:
        name: on the command line.
        title: what is played, for people.
        manifests: folder with the resource and its profile.
        trace: bundled trace.
        trace_seconds: how much of a trace is played, in its own time.
        speedup: seconds of the trace in one second of the clock.
        lead_in_seconds: of the clock, played before and left out of the figures.
    """

    name: str
    title: str
    manifests: Path
    trace: Path
    trace_seconds: float
    speedup: float
    lead_in_seconds: float


FIRST_LIGHT = Scenario(
    name="first-light",
    title="Ten minutes of a real trace, five times as fast",
    manifests=MANIFESTS / "demo",
    trace=TRACES / "azure2023-conv-10min.csv.gz",
    trace_seconds=600.0,
    speedup=5.0,
    lead_in_seconds=60.0,
)
DIURNAL = Scenario(
    name="diurnal",
    title="Two hours of a real morning, 24 times as fast",
    manifests=MANIFESTS / "demo-diurnal",
    trace=TRACES / "servegen-m-large-2h.csv.gz",
    trace_seconds=7200.0,
    speedup=24.0,
    lead_in_seconds=60.0,
)
SCENARIOS = {scenario.name: scenario for scenario in (FIRST_LIGHT, DIURNAL)}


@dataclass(frozen=True)
class Settings:
    """What a scenario's manifests say, as far as the demo needs it. Times are seconds of the clock.

    Attributes:
        spec: of the resource.
        model: performance of one engine.
        policy: bounds and objectives.
    """

    spec: DisaggregatedInferenceSpec
    model: EngineModel
    policy: Policy

    @classmethod
    def of(cls, scenario: Scenario) -> "Settings":
        """Read the manifests of a scenario."""
        inference = yaml.safe_load((scenario.manifests / "inference.yaml").read_text())
        profile = yaml.safe_load((scenario.manifests / "profile.yaml").read_text())
        spec = DisaggregatedInferenceSpec.model_validate(inference["spec"])
        model = EngineModel.from_profile(EngineProfileSpec.model_validate(profile["spec"]))
        return cls(spec, model, Policy.from_spec(spec, now_seconds=0.0))  # no schedules: any time will do

    def objectives(self, speedup: float) -> Objectives:
        """The latency objectives, in time of the trace."""
        return Objectives(self.spec.slo.ttft_seconds * speedup, self.spec.slo.itl_seconds * speedup)


@dataclass(frozen=True)
class Prepared:
    """A trace made ready to be played.

    Attributes:
        schedule: lead-in and trace, in time of the clock.
        left_out: requests that no engine of the scenario holds.
        share: of the other requests that are played.
        needs: what each stretch of the trace needs, offline, lead-in left out.
    """

    schedule: Schedule
    left_out: int
    share: float
    needs: list[fitting.Need]


def prepare(scenario: Scenario, settings: Settings, trace: Path) -> Prepared:
    """The part of a trace that is played, compressed, and thinned if the scenario's workers could not carry it all.

    Raises:
        TraceError: the file cannot be used.
    """
    window = read_trace(trace).window(0.0, scenario.trace_seconds)
    held = fitting.without_longest(window)
    if not held:
        seconds = scenario.trace_seconds
        raise TraceError(f"trace {trace}: no request of its first {seconds:.0f} s fits an engine of the demo")
    schedule, share = fitting.fit(held.compressed(scenario.speedup), settings.model, settings.policy)
    needs = fitting.needs(schedule, settings.model, settings.policy)
    return Prepared(schedule.led_in(scenario.lead_in_seconds), len(window) - len(held), share, needs)
