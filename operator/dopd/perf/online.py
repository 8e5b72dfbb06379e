"""Correct a profile by what running engines report, without profiling them.

SGLang counts, per engine: prompt tokens computed and the time that took, and over all decode steps the sums of
batch size, step time and their products (`/v1/loads`: `total_prefill_uncached_tokens`, `total_prefill_busy_us`,
`decode_moments`). The difference of two readings is a window. Each window says how the engine's time compares with
the profile's at the load it had; the correction of a role is the median of those ratios.

What a prompt should have taken depends on what shared its passes, which nobody counts: alone it takes its own
passes, under load its share of full ones (`EngineModel.packed_seconds`). Both are means over the distribution of
lengths, since time is convex in length. An engine between the two is as its profile says; one that is slower than
alone or faster than full is not.

Hygiene, since a correction that is wrong scales the fleet wrongly: windows of young engines and windows with little
work do not count; at most a few windows of a similar load are kept, so that an idle night does not push the busy
day out; a decode window whose step time falls as its batch grows is not physics and is dropped; a correction
without enough windows is not given; and when new windows disagree with old ones of a similar load the engine has
changed, those old ones go, and `drifted` says so once. Loads are not compared with each other: an engine may well be
slower than its profile at one batch and not at another.
"""

from dataclasses import dataclass, replace
from statistics import median

from dopd.perf.engine import EngineModel

YOUNG_SECONDS = 120.0
FEWEST_STEPS, FEWEST_PREFILL_TOKENS = 50, 2000
FEWEST_WINDOWS = 5
KEPT_PER_LOAD = 8  # loads within a factor of two count as similar
DRIFT_WINDOWS, FEWEST_OLDER, DRIFT = 5, 3, 0.15
FACTORS = (0.2, 5.0)


@dataclass(frozen=True)
class Counters:
    """What an engine has done since it started, summed over its data-parallel ranks.

    Attributes:
        prefill_tokens: uncached prompt tokens computed.
        prefill_busy_seconds: time that took.
        decode_moments: over all decode steps: their number, sums of batch size, step seconds, squared batch size, and
            batch size times step seconds; zeros from an engine that does not report them (SGLang < 0.5.17).
    """

    prefill_tokens: float
    prefill_busy_seconds: float
    decode_moments: tuple[float, float, float, float, float]


@dataclass(frozen=True)
class DecodeWindow:
    """Differences of `decode_moments` over one window of one engine.

    Attributes:
        steps: decode steps.
        batch: sum of batch sizes over the steps.
        seconds: sum of step times.
        batch_squares: sum of squared batch sizes.
        batch_seconds: sum of batch size x step time.
        context_tokens: mean tokens that a running request held.
        engine_age_seconds: age of the engine at the end of the window.
    """

    steps: float
    batch: float
    seconds: float
    batch_squares: float
    batch_seconds: float
    context_tokens: float
    engine_age_seconds: float

    @property
    def slope(self) -> float:
        """Seconds that one more request adds to a step, by least squares; 0 if the batch did not vary."""
        spread = self.steps * self.batch_squares - self.batch**2
        if spread <= 1e-9 * self.batch**2:
            return 0.0
        return (self.steps * self.batch_seconds - self.batch * self.seconds) / spread


@dataclass(frozen=True)
class PrefillWindow:
    """Differences of the prefill counters over one window of one engine.

    Attributes:
        tokens: prompt tokens computed.
        prompt_lengths: (probability, tokens) of the prompts that they belong to, without what the cache held.
        prompt_square_tokens: mean of the squared length, tokens squared. The few lengths above leave out the far end of
            the distribution, whose attention is not small.
        uncached_share: of all tokens of those prompts; the cache held the rest.
        busy_seconds: time that took.
        engine_age_seconds: age of the engine at the end of the window.
    """

    tokens: float
    prompt_lengths: tuple[tuple[float, float], ...]
    prompt_square_tokens: float
    uncached_share: float
    busy_seconds: float
    engine_age_seconds: float


@dataclass(frozen=True)
class Correction:
    """Measured over modelled time of one role.

    Attributes:
        factor: to multiply the model's times by; 1 while unknown.
        windows: on how many windows it rests; 0 while unknown.
        confidence: 0 (unknown) to 1 (many windows that agree).
        drifted: the newest windows disagreed with the older ones of a similar load, which were dropped.
    """

    factor: float = 1.0
    windows: int = 0
    confidence: float = 0.0
    drifted: bool = False


@dataclass(frozen=True)
class Ratios:
    """Measured over modelled time, newest last, each with the load bucket that it was taken at."""

    kept: tuple[tuple[int, float], ...] = ()
    drifted: bool = False

    def add_decode(self, window: DecodeWindow, model: EngineModel) -> "Ratios":
        """Take in a decode window, or leave it."""
        if window.engine_age_seconds < YOUNG_SECONDS or window.steps < FEWEST_STEPS or window.slope < 0:
            return self
        batch = window.batch / window.steps
        expected = model.itl_seconds(batch, window.context_tokens)
        return self._add(batch, window.seconds / window.steps / expected)

    def add_prefill(self, window: PrefillWindow, model: EngineModel) -> "Ratios":
        """Take in a prefill window, or leave it."""
        length = sum(probability * tokens for probability, tokens in window.prompt_lengths)
        if window.engine_age_seconds < YOUNG_SECONDS or window.tokens < FEWEST_PREFILL_TOKENS or not length:
            return self
        share = window.uncached_share or 1.0
        alone, packed = (
            sum(probability * seconds(tokens, tokens / share - tokens) for probability, tokens in window.prompt_lengths)
            for seconds in (model.passes_seconds, model.packed_seconds)
        )
        square = sum(probability * tokens**2 for probability, tokens in window.prompt_lengths)
        far_end = model.attention_seconds * (2 / share - 1) * max(0.0, window.prompt_square_tokens - square)
        took = window.busy_seconds * length / window.tokens
        nearest = min(max(took, min(alone, packed) + far_end), max(alone, packed) + far_end)
        return self._add(length, took / nearest)

    @property
    def correction(self) -> Correction:
        """The median ratio, once it rests on enough windows."""
        values = [ratio for _, ratio in self.kept]
        if len(values) < FEWEST_WINDOWS:
            return Correction(drifted=self.drifted)
        middle = median(values)
        spread = median(abs(value / middle - 1) for value in values)
        enough = len(values) / (len(values) + FEWEST_WINDOWS)
        return Correction(middle, len(values), enough / (1 + 10 * spread), self.drifted)

    def _add(self, load: float, ratio: float) -> "Ratios":
        if not FACTORS[0] <= ratio <= FACTORS[1]:
            return self
        bucket = int(max(1.0, load)).bit_length()
        same = [i for i, (other, _) in enumerate(self.kept) if other == bucket]
        oldest = same[0] if len(same) >= KEPT_PER_LOAD else -1
        kept = (*(entry for i, entry in enumerate(self.kept) if i != oldest), (bucket, ratio))
        similar = [value for other, value in kept if other == bucket]
        newest, older = similar[-DRIFT_WINDOWS:], similar[:-DRIFT_WINDOWS]
        if len(older) >= FEWEST_OLDER:
            before = median(older)
            if all(abs(value / before - 1) > DRIFT for value in newest):
                others = tuple(entry for entry in kept if entry[0] != bucket)
                return Ratios((*others, *((bucket, value) for value in newest)), drifted=True)
        return replace(self, kept=kept, drifted=False)
