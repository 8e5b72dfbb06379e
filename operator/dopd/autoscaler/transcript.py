"""Everything that an autoscaler was told and what it answered, as JSON lines. Pure: who records says where lines go.

A transcript that was recorded where a cluster ran and is replayed gives the decisions that were made there. Its lines,
in the order in which things happened:

- `begin`: constants and `miss` of the autoscaler, and whether it forecasts;
- `model`, `policy`: those of the lines that follow, until the next of their kind;
- `observe`: a sample, and how the past differs from that of the `observe` before: bins that are new or changed, ends
  of those that are gone;
- `decide`: workers, time, and the decision;
- `preview`: workers and time, since a preview remembers how the queue grows.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from dopd.autoscaler.decision import Decision
from dopd.autoscaler.foreseen import Forecasts
from dopd.autoscaler.idle import Counts
from dopd.autoscaler.loop import Autoscaler
from dopd.autoscaler.past import PastLoad
from dopd.autoscaler.sample import Sample
from dopd.autoscaler.tuning import Tuning
from dopd.perf import EngineModel
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Policy
from dopd.planning.workers import Workers
from dopd_forecasting import Forecaster

_SAMPLE, _PAST = TypeAdapter(Sample), TypeAdapter(list[PastLoad])
_MODEL, _POLICY, _WORKERS = TypeAdapter(EngineModel), TypeAdapter(Policy), TypeAdapter(PerRole[Workers])
_KINDS = {"begin", "model", "policy", "observe", "decide", "preview"}


@dataclass(frozen=True)
class Answer:
    """What was decided at a time.

    Attributes:
        at_seconds: time, on the clock of the samples.
        prefill: target of prefill workers.
        decode: target of decode workers.
        reason: why, in one word.
        message: why, with the numbers.
    """

    at_seconds: float
    prefill: int
    decode: int
    reason: str
    message: str

    @classmethod
    def of(cls, decision: Decision, at_seconds: float) -> "Answer":
        """What a transcript tells of a decision."""
        return cls(at_seconds, decision.prefill, decision.decode, decision.reason.value, decision.message)


class Recorded(Autoscaler):
    """An autoscaler that writes down what it is told and what it answers.

    Args:
        write: takes one line, without its end. It is called from the threads that call the autoscaler.
        miss: the knob's share, where it is known from before a restart.
        forecaster: makes what forecasts the load of a role; None to do without.
        asleep: both roles were at zero before a restart.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        miss: float | None = None,
        forecaster: Callable[[], Forecasts] | None = Forecaster,
        *,
        asleep: bool = False,
    ) -> None:
        super().__init__(miss=miss, forecaster=forecaster, asleep=asleep)
        self._write = write
        self._told: dict[str, Any] = {}
        self._past: dict[float, PastLoad] = {}
        begun = {"tuning": asdict(self._tuning), "miss": miss, "forecasts": self._forecaster is not None}
        self._line("begin", {**begun, **({"asleep": True} if asleep else {})})

    def observe(
        self,
        sample: Sample,
        model: EngineModel,
        policy: Policy,
        past: Sequence[PastLoad] = (),
        past_offset_seconds: float = 0.0,
    ) -> None:
        """Take in the load. It is written once that is done, since decisions meanwhile do not know it."""
        super().observe(sample, model, policy, past, past_offset_seconds)
        now = {one.end_seconds: one for one in past}
        new = [one for one in past if self._past.get(one.end_seconds) != one]
        told = {
            "sample": _plain(_SAMPLE, sample),
            "past": _plain(_PAST, new),
            "gone": [end for end in self._past if end not in now],
            "offset_seconds": past_offset_seconds,
        }
        self._past = now
        self._grounds(model, policy)
        self._line("observe", told)

    def decide(
        self,
        workers: PerRole[Workers],
        now_seconds: float,
        model: EngineModel,
        policy: Policy,
        counted: Counts | None = None,
    ) -> Decision:
        """Name the workers that there should be, and remember that."""
        decision = super().decide(workers, now_seconds, model, policy, counted)
        self._grounds(model, policy)
        answer = asdict(Answer.of(decision, now_seconds))
        self._line("decide", {"workers": _plain(_WORKERS, workers), "answer": answer, **_counted(counted)})
        return decision

    def preview(
        self,
        workers: PerRole[Workers],
        now_seconds: float,
        model: EngineModel,
        policy: Policy,
        counted: Counts | None = None,
    ) -> Decision:
        """What `decide` would say."""
        decision = super().preview(workers, now_seconds, model, policy, counted)
        self._grounds(model, policy)
        told = {"workers": _plain(_WORKERS, workers), "at_seconds": now_seconds, **_counted(counted)}
        self._line("preview", told)
        return decision

    def _grounds(self, model: EngineModel, policy: Policy) -> None:
        for kind, adapter, value in (("model", _MODEL, model), ("policy", _POLICY, policy)):
            if self._told.get(kind) != value:
                self._told[kind] = value
                self._line(kind, _plain(adapter, value))

    def _line(self, kind: str, told: Any) -> None:
        self._write(json.dumps({kind: told}, separators=(",", ":"), allow_nan=False))


def replay(lines: Iterable[str], forecaster: Callable[[], Forecasts] = Forecaster) -> Iterator[tuple[Answer, Answer]]:
    """Tell an autoscaler what a transcript says.

    Args:
        lines: of the transcript.
        forecaster: makes what forecasts the load of a role, where the transcript says that one did.

    Yields:
        Each decision as it was made, and as it is made now.

    Raises:
        ValueError: a line that is no line of a transcript.
    """
    autoscaler, past, grounds = Autoscaler(), dict[float, PastLoad](), dict[str, Any]()
    for number, line in enumerate(lines, 1):
        entry = json.loads(line)
        if not (isinstance(entry, dict) and len(entry) == 1 and _KINDS.issuperset(entry)):
            raise ValueError(
                f"transcript: line {number} begins {line[:40]}; expected one of {', '.join(sorted(_KINDS))}. Record it "
                "anew"
            )
        ((kind, told),) = entry.items()
        if kind == "begin":
            made = forecaster if told["forecasts"] else None
            tuning, asleep = Tuning(**told["tuning"]), told.get("asleep", False)
            autoscaler = Autoscaler(tuning, miss=told["miss"], forecaster=made, asleep=asleep)
        elif kind == "model":
            grounds[kind] = _MODEL.validate_python(told)
        elif kind == "policy":
            grounds[kind] = _POLICY.validate_python(told)
        elif kind == "observe":
            past = {end: one for end, one in past.items() if end not in told["gone"]}
            past |= {one.end_seconds: one for one in _PAST.validate_python(told["past"])}
            sample, known = _SAMPLE.validate_python(told["sample"]), [past[end] for end in sorted(past)]
            autoscaler.observe(sample, grounds["model"], grounds["policy"], known, told["offset_seconds"])
        elif kind == "decide":
            then, workers = Answer(**told["answer"]), _WORKERS.validate_python(told["workers"])
            model, policy, counted = grounds["model"], grounds["policy"], told.get("counted")
            decision = autoscaler.decide(workers, then.at_seconds, model, policy, counted)
            yield then, Answer.of(decision, then.at_seconds)
        else:
            workers = _WORKERS.validate_python(told["workers"])
            at_seconds, counted = told["at_seconds"], told.get("counted")
            autoscaler.preview(workers, at_seconds, grounds["model"], grounds["policy"], counted)


def _plain(adapter: TypeAdapter[Any], value: Any) -> Any:
    return adapter.dump_python(value, mode="json", exclude_defaults=True)


def _counted(counted: Counts | None) -> dict[str, Any]:
    return {} if counted is None else {"counted": dict(counted)}
