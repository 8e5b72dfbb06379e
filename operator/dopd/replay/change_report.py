"""What a change of a spec would have done to a resource's own load, as Markdown for a pull request. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dopd.replay.own_history import Variant, most_gpus
from dopd.replay.runner import Result
from dopd.replay.trace import Trace

LONGEST_VALUE = 60
"""Characters of a value of a changed field that are shown."""


@dataclass(frozen=True)
class ChangeReport:
    """Runs of one trace under one or two specs.

    Attributes:
        resource: namespace and name.
        begin_seconds: of the trace, seconds since the epoch.
        trace: that was replayed.
        runs: variant and result, before first.
        source: where the history was read.
        remarks: gaps of the history and the like.
        uncached_share: of the prompt tokens, as the engines told it.
    """

    resource: str
    begin_seconds: float
    trace: Trace
    runs: tuple[tuple[Variant, Result], ...]
    source: str
    remarks: tuple[str, ...] = ()
    uncached_share: float = 1.0

    @property
    def reaches(self) -> bool:
        """Whether the last of the runs meets its objective."""
        variant, result = self.runs[-1]
        return result.attainment >= variant.objectives.attainment

    def as_markdown(self) -> str:
        """The report."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        begin, end = (_time(self.begin_seconds + at) for at in (0.0, self.trace.duration_seconds))
        yield f"### dopd replay of {self.resource}, {begin} to {end}"
        yield ""
        yield self._verdict()
        yield ""
        names = [variant.name for variant, _ in self.runs]
        changed = len(self.runs) > 1
        yield "| | " + " | ".join([*names, *["change"] * changed]) + " |"
        yield "|---|" + "---:|" * (len(names) + changed)
        for name, cells, change in self._rows():
            yield f"| {name} | " + " | ".join([*cells, *[change] * changed]) + " |"
        if changed:
            yield ""
            yield "Changed fields:"
            yield ""
            before, after = (variant.spec.model_dump(mode="json", by_alias=True) for variant, _ in self.runs)
            yield from changes(before, after)
        yield ""
        yield from self._notes()

    def _verdict(self) -> str:
        variant, result = self.runs[-1]
        aim = variant.objectives.attainment
        words = (
            f"**{result.attainment:.2%} of the requests are on time {'as it is' if len(self.runs) == 1 else 'after'}"
        )
        words += f" (objective {aim:.4g}), with {result.gpu_hours:.1f} GPU-hours.**"
        if not self.reaches:
            words += " It misses its objective."
        if len(self.runs) > 1:
            was_variant, was = self.runs[0]
            lost = was.attainment >= was_variant.objectives.attainment and not self.reaches
            saved = was.gpu_hours - result.gpu_hours
            words += f" Before: {was.attainment:.2%} with {was.gpu_hours:.1f}"
            words += f", so the change {'saves' if saved >= 0 else 'costs'} {abs(saved):.1f} GPU-hours"
            words += " and loses the objective." if lost else "."
        return words

    def _rows(self) -> Iterator[tuple[str, list[str], str]]:
        results = [result for _, result in self.runs]

        def row(name: str, values: Sequence[float], form: str, unit: str = "") -> tuple[str, list[str], str]:
            change = values[-1] - values[0]
            return name, [f"{value:{form}}{unit}" for value in values], f"{change:+{form}}{unit}"

        yield row("requests on time", [100 * result.attainment for result in results], ".2f", " %")
        yield row("objective", [100 * variant.objectives.attainment for variant, _ in self.runs], ".4g", " %")
        yield row("TTFT on time", [100 * result.attainment_ttft for result in results], ".2f", " %")
        yield row("ITL on time", [100 * result.attainment_itl for result in results], ".2f", " %")
        yield row("TTFT p50", [result.ttft_p50 for result in results], ".3f", " s")
        yield row("TTFT p99", [result.ttft_p99 for result in results], ".3f", " s")
        yield row("ITL p90", [1000 * result.itl_p90 for result in results], ".1f", " ms")
        yield row("GPU-hours", [result.gpu_hours for result in results], ".1f")
        yield row("most GPUs at once", [float(most_gpus(result, variant)) for variant, result in self.runs], ".0f")
        yield row("changes of the target", [float(result.changes) for result in results], ".0f")

    def _notes(self) -> Iterator[str]:
        trace = self.trace
        yield (
            f"{len(trace):,} requests of {trace.input_tokens.mean():.0f} prompt and {trace.output_tokens.mean():.0f} "
            f"answer tokens in the mean, drawn from the rates and lengths in {self.source}."
        )
        yield ""
        yield "- Both sides are simulated with the EngineProfile; what the cluster really did is in its dashboard."
        yield "- Arrivals within a bin are Poisson, and lengths are lognormal with the mean and spread of the bin."
        if self.uncached_share < 0.995:
            yield (
                f"- The prefix cache held {1 - self.uncached_share:.0%} of the prompt tokens: prompts are as long as "
                "the rest, so decode holds less KV cache here than in truth."
            )
        for remark in self.remarks:
            yield f"- {remark}"


def changes(before: Any, after: Any, path: str = "spec") -> Iterator[str]:
    """Fields that differ, a line each."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            yield from changes(before.get(name), after.get(name), f"{path}.{name}")
    elif before != after:
        yield f"- `{path}`: {_value(before)} to {_value(after)}"


def _value(value: Any) -> str:
    if value is None:
        return "absent"
    text = str(value)
    return f"`{text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + ' ...'}`"


def _time(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
