"""Generation lengths: right while the load grows and shrinks, where finished answers alone are wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.planning.generation import generation_tokens

MEAN_SECONDS, TOKENS_PER_SECOND, REQUESTS = 50.0, 40.0, 2_000_000
TRUE_TOKENS = MEAN_SECONDS * TOKENS_PER_SECOND


def lengths_in_seconds(generator: np.random.Generator, cv: float) -> np.ndarray:
    if cv == 1.0:
        return generator.exponential(MEAN_SECONDS, REQUESTS)
    sigma = np.sqrt(np.log1p(cv**2))
    return generator.lognormal(np.log(MEAN_SECONDS) - sigma**2 / 2, sigma, REQUESTS)


@pytest.mark.parametrize("cv", [0.2, 0.8, 1.0])
@pytest.mark.parametrize("growth", [-0.004, 0.0, 0.004])
def test_a_load_that_grows_or_shrinks_is_measured_within_a_few_percent(cv, growth):
    """By a fifth in an answer's time. Without slots to wait for; every answer gets the same tokens per second."""
    generator = np.random.default_rng(5)
    span, window = 2000.0, 45.0
    shares = generator.uniform(size=REQUESTS)
    arrived = np.log1p(shares * np.expm1(growth * span)) / growth if growth else shares * span
    seconds = lengths_in_seconds(generator, cv)
    left, first = arrived + seconds, span - window
    finished = seconds[(left >= first) & (left < span)]
    ran = np.clip(np.minimum(left, span) - np.maximum(arrived, first), 0, None)
    count, tokens = len(finished), finished.sum() * TOKENS_PER_SECOND
    squared_cv = finished.var() / finished.mean() ** 2
    found = generation_tokens(count, tokens, squared_cv, ran.sum() * TOKENS_PER_SECOND)
    assert found == pytest.approx(TRUE_TOKENS, rel=0.04)
    alone = generation_tokens(count, tokens, squared_cv, None)
    assert abs(found - TRUE_TOKENS) <= abs(alone - TRUE_TOKENS) + 0.01 * TRUE_TOKENS
    if growth and cv > 0.5:
        assert abs(alone / TRUE_TOKENS - 1) > 0.07


def test_a_load_that_stands_still_wavers_no_more_than_finished_answers_alone():
    generator, windows, count, cv = np.random.default_rng(6), 4000, 100, 0.8
    sigma = np.sqrt(np.log1p(cv**2))
    counts = generator.poisson(count, windows)
    sums = np.array([generator.lognormal(np.log(500) - sigma**2 / 2, sigma, n).sum() for n in counts])
    both = [generation_tokens(n, s, cv**2, count * 499.0) for n, s in zip(counts, sums, strict=True)]
    alone = [generation_tokens(n, s, cv**2, None) for n, s in zip(counts, sums, strict=True)]
    assert np.std(both) / np.mean(both) == pytest.approx(np.std(alone) / np.mean(alone), rel=0.05)
    assert np.mean(both) == pytest.approx(500, rel=0.01)


@given(
    st.integers(1, 10**6),
    st.floats(1, 10**5),
    st.floats(0, 100),
    st.none() | st.floats(0, 10**12),
)
def test_it_lies_between_what_finished_and_what_was_made(finished, mean, squared_cv, decoded):
    found = generation_tokens(finished, finished * mean, squared_cv, decoded)
    made = 1 + decoded / (finished + 1) if decoded else mean
    assert min(mean, made) * (1 - 1e-9) <= found <= max(mean, made) * (1 + 1e-9)
