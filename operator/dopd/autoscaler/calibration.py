"""The profile against the engines that run: what `dopd.perf.online` needs, taken from two looks at `/v1/loads`."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dopd.api.names import Role
from dopd.perf import Correction, DecodeWindow, EngineModel, PrefillWindow, Ratios
from dopd.perf.online import Counters
from dopd.planning import Demand, PerRole

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineSample:
    """The counters of one engine at one time.

    Attributes:
        engine: names one start of the engine, so that a restart is another engine.
        role: of its worker.
        age_seconds: since it started.
        counters: as it reports them.
    """

    engine: str
    role: Role
    age_seconds: float
    counters: Counters


class Calibration:
    """Learns how the engines of one resource compare with its profile."""

    def __init__(self) -> None:
        self._last: dict[str, Counters] = {}
        self._ratios = {role: Ratios() for role in Role}

    @property
    def corrections(self) -> Mapping[Role, Correction]:
        """What is known by now, by role."""
        return {role: ratios.correction for role, ratios in self._ratios.items()}

    def take(self, samples: Sequence[EngineSample], demand: Demand | None, model: EngineModel) -> None:
        """Compare the time since the look before with the profile.

        Args:
            samples: of the engines that answered.
            demand: load now, which tells the lengths of what they ran; None while it is not known.
            model: what the profile says.
        """
        before, self._last = self._last, {sample.engine: sample.counters for sample in samples}
        if demand is None or demand.input_tokens <= 0:
            return
        for sample in samples:
            earlier = before.get(sample.engine)
            if earlier is None:
                continue
            ratios = self._ratios[sample.role]
            if sample.role is Role.PREFILL:
                ratios = ratios.add_prefill(_prefill_window(sample, earlier, demand), model)
            else:
                ratios = ratios.add_decode(_decode_window(sample, earlier, demand), model)
            if ratios.drifted and not self._ratios[sample.role].drifted:
                _LOG.warning("%s engines run at another pace than before: %s", sample.role, ratios.correction)
            self._ratios[sample.role] = ratios

    def corrected(self, model: EngineModel) -> EngineModel:
        """The profile with the corrections, each as far as it is confided in.

        Of prefill only slowness is believed: what a window computed is known, how its prompts shared passes is not.
        """
        factors = applied(self.corrections)
        if factors == NO_CORRECTION:
            return model
        return model.corrected(prefill=factors.prefill, decode=factors.decode)


NO_CORRECTION = PerRole(1.0, 1.0)


def applied(corrections: Mapping[Role, Correction]) -> PerRole[float]:
    """Factors on the times of the profile that are planned with, by role."""

    def of(role: Role) -> float:
        known = corrections.get(role)
        return 1.0 + known.confidence * (known.factor - 1.0) if known else 1.0

    return PerRole(max(1.0, of(Role.PREFILL)), of(Role.DECODE))


def _prefill_window(sample: EngineSample, earlier: Counters, demand: Demand) -> PrefillWindow:
    return PrefillWindow(
        tokens=sample.counters.prefill_tokens - earlier.prefill_tokens,
        prompt_lengths=demand.prompt_lengths(),
        prompt_square_tokens=demand.input_tokens_second_moment * demand.uncached_share**2,
        uncached_share=demand.uncached_share,
        busy_seconds=sample.counters.prefill_busy_seconds - earlier.prefill_busy_seconds,
        engine_age_seconds=sample.age_seconds,
    )


def _decode_window(sample: EngineSample, earlier: Counters, demand: Demand) -> DecodeWindow:
    steps, batch, seconds, squares, batch_seconds = (
        now - then for now, then in zip(sample.counters.decode_moments, earlier.decode_moments, strict=True)
    )
    return DecodeWindow(
        steps=steps,
        batch=batch,
        seconds=seconds,
        batch_squares=squares,
        batch_seconds=batch_seconds,
        context_tokens=demand.running_context_tokens,
        engine_age_seconds=sample.age_seconds,
    )
