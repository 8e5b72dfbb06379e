"""Fixed counts at equal GPUs: prefill and decode split, or engines that do both behind a load balancer.

The question that comes before any planner: what would the same GPUs attain without a split? Each deployment is as
strong as it can be made with hindsight: the split has the ratio of prefill to decode workers that attains most, engines
that mix prompts and answers in a pass (SGLang's `--enable-mixed-chunk`) have the chunk that does. Counts stay fixed, so
that no planner's skill is in the figures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dopd.planning.bounds import Pair
from dopd.replay.aggregated import AggregatedCluster
from dopd.replay.pass_times import Mixing, PassTimes
from dopd.replay.policies import static
from dopd.replay.policies.base import Setting
from dopd.replay.runner import Result, measure, run
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings

SPLIT, AGGREGATED, MIXED = "split", "aggregated", "aggregated-mixed"
DEPLOYMENTS = (SPLIT, AGGREGATED, MIXED)
MIXED_CHUNKS = (512, 2048)
"""Tokens of a mixed pass, tried beside the profile's own: short passes spare the ITL, long ones compute more."""


@dataclass(frozen=True)
class Row:
    """One deployment on so many GPUs.

    Attributes:
        deployment: one of `DEPLOYMENTS`.
        gpus: of all its workers.
        label: how they are used: prefill + decode workers, or engines.
        result: what clients met.
    """

    deployment: str
    gpus: int
    label: str
    result: Result


@dataclass(frozen=True)
class Comparison:
    """The deployments at equal GPUs.

    Attributes:
        fewest_gpus: with which each reaches the objective; None if it does not with the most that were tried.
        rows: each deployment on each of these numbers of GPUs.
        tried: all runs of each deployment: label and result.
    """

    fewest_gpus: dict[str, int | None]
    rows: tuple[Row, ...]
    tried: dict[str, list[tuple[str, Result]]]

    def as_text(self) -> str:
        """The comparison as a table for a terminal."""
        fewest = ", ".join(f"{name} {gpus or 'none of those tried'}" for name, gpus in self.fewest_gpus.items())
        lines = [
            f"Fixed counts at equal GPUs; fewest that reach the objective: {fewest}",
            "GPUs  deployment        attained    TTFT     ITL  TTFT p90  ITL p90  goodput  workers",
        ]
        for row in self.rows:
            r = row.result
            lines.append(
                f"{row.gpus:>4}  {row.deployment:<16}{r.attainment:>10.2%}{r.attainment_ttft:>8.1%}"
                f"{r.attainment_itl:>8.1%}{r.ttft_p90:>9.2f}s{r.itl_p90 * 1e3:>7.1f}ms{r.goodput_rps:>7.2f}/s"
                f"  {row.label}"
            )
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """The same figures."""
        rows = [
            {
                "deployment": row.deployment, "gpus": row.gpus, "workers": row.label,
                "attainment": row.result.attainment, "ttft_p90": row.result.ttft_p90, "itl_p90": row.result.itl_p90,
                "goodput_rps": row.result.goodput_rps,
            }
            for row in self.rows
        ]  # fmt: skip
        return {"fewest_gpus": self.fewest_gpus, "rows": rows}


@dataclass
class FixedCounts:
    """Runs of the deployments on one trace; what ran is kept.

    Attributes:
        setting: engine and objectives.
        trace: the requests.
        settings: gateway and GPUs of a worker, the same in both roles.
        served: told of each run: deployment, label, result.
        known: where to begin: share of prefill workers, or chunk, that was the best before; runs write it.
        mixing: what a pass over prompts and answers takes.
    """

    setting: Setting
    trace: Trace
    settings: Settings
    served: Callable[[str, str, Result], None] = lambda *_: None
    known: dict[str, float] = field(default_factory=dict)
    mixing: Mixing = Mixing.COMPOSED
    _times: dict[int, PassTimes] = field(default_factory=dict)
    _kept: dict[tuple[str, int, int], tuple[str, Result]] = field(default_factory=dict)

    def best(self, deployment: str, workers: int, enough: float = math.inf) -> tuple[str, Result]:
        """Label and result of a deployment at its best use of so many workers.

        Args:
            deployment: one of `DEPLOYMENTS`.
            workers: of all roles together, or engines.
            enough: attainment at which the search for a better use ends.

        Raises:
            ValueError: a split needs two workers.
        """
        if deployment == SPLIT:
            if workers < 2:
                raise ValueError(f"a split of {workers} workers: expected at least 2, one of each role")
            return self._best_split(workers, enough)
        chunk = self.setting.model.chunk_tokens
        chunks = [chunk, *(c for c in MIXED_CHUNKS if c < chunk)] if deployment == MIXED else [chunk]
        chunks.sort(key=lambda c: c != self.known.get(deployment))
        best: tuple[str, Result] | None = None
        for chunk in chunks:
            found = self.engines(deployment, workers, chunk)
            if best is None or _merit(found) > _merit(best):
                best = found
                self.known[deployment] = chunk
            if found[1].attainment >= enough:
                break
        assert best is not None
        return best

    def split(self, pair: Pair) -> tuple[str, Result]:
        """Label and result of so many prefill and decode workers."""
        label = f"{pair[0]} + {pair[1]}"
        return self._once(
            (SPLIT, *pair),
            label,
            lambda: run(self.trace, self.setting.model, self.setting.objectives, pair, self.settings),
        )

    def engines(self, deployment: str, number: int, chunk_tokens: int) -> tuple[str, Result]:
        """Label and result of so many engines that do both, with passes of so many tokens."""
        chunk = f", chunks of {chunk_tokens}" if deployment == MIXED else ""
        return self._once(
            (deployment, number, chunk_tokens),
            f"{number} engine{'s' if number > 1 else ''}{chunk}",
            lambda: self._serve(deployment, number, chunk_tokens),
        )

    def fewest(self, deployment: str, guess: int, most: int) -> int | None:
        """The fewest workers that reach the objective; None if `most` do not."""
        least = 2 if deployment == SPLIT else 1
        low, high = least - 1, max(least, guess)
        while not self._reached(deployment, high):
            if high >= most:
                return None
            low, high = high, min(most, max(high + 1, high * 5 // 4))
        while high - low > 1:
            middle = (low + high) // 2
            if self._reached(deployment, middle):
                high = middle
            else:
                low = middle
        return high

    def compare(self) -> Comparison:
        """Find the fewest GPUs of each deployment, and what each attains on those of the others."""
        guess = sum(static.peak(self.setting, self.trace))
        fewest = {name: self.fewest(name, guess, 3 * guess + 5) for name in DEPLOYMENTS}
        counts = sorted({n for n in fewest.values() if n}) or [guess]
        gpus = self.setting.prefill_gpus
        rows = tuple(
            Row(name, n * gpus, *self.best(name, n)) for n in counts for name in DEPLOYMENTS if n > 1 or name != SPLIT
        )
        tried = {name: [run for key, run in self._kept.items() if key[0] == name] for name in DEPLOYMENTS}
        return Comparison({name: n * gpus if n else None for name, n in fewest.items()}, rows, tried)

    def _reached(self, deployment: str, workers: int) -> bool:
        goal = self.setting.objectives.attainment
        return self.best(deployment, workers, goal)[1].attainment >= goal

    def _best_split(self, workers: int, enough: float) -> tuple[str, Result]:
        """Climb from the share of prefill workers that was best before, or that the trace's mean load asks for."""
        if SPLIT not in self.known:
            whole = static.true_demand(self.trace, 0.0, self.trace.duration_seconds)
            prefill, decode = static.busy_workers(self.setting, whole)
            self.known[SPLIT] = prefill / (prefill + decode)
        at = min(max(1, round(workers * self.known[SPLIT])), workers - 1)
        best = self.split((at, workers - at))
        for step in (-1, 1):
            while best[1].attainment < enough and 1 <= at + step < workers:
                other = self.split((at + step, workers - at - step))
                if _merit(other) <= _merit(best):
                    break
                at, best = at + step, other
        self.known[SPLIT] = at / workers
        return best

    def _serve(self, deployment: str, number: int, chunk_tokens: int) -> Result:
        model = self.setting.model
        if chunk_tokens not in self._times:
            self._times[chunk_tokens] = PassTimes(model, chunk_tokens, self.mixing)
        cluster = AggregatedCluster(
            model, self._times[chunk_tokens], self.trace, number,
            replace(self.settings, objectives=self.setting.objectives), deployment == MIXED,
        )  # fmt: skip
        cluster.run()
        return measure(cluster, self.setting.objectives, [])

    def _once(self, key: tuple[str, int, int], label: str, serve: Callable[[], Result]) -> tuple[str, Result]:
        if key not in self._kept:
            self._kept[key] = label, serve()
            self.served(key[0], *self._kept[key])
        return self._kept[key]


def _merit(run: tuple[str, Result]) -> tuple[float, float]:
    """Which of two runs is better: by the requests within both objectives, then by the P90 of the TTFT."""
    return run[1].attainment, -run[1].ttft_p90
