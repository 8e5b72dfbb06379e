import numpy as np
import pytest

from dopd.perf import EngineModel
from dopd.replay.trace import Trace


@pytest.fixture(scope="session")
def model() -> EngineModel:
    """10 ms + 25 us a token of prefill; 5 ms + 0.1 ms a request of decode; nothing lost in transfer."""
    return EngineModel(
        prefill_curve=((1.0, 0.010025), (8000.0, 0.210)),
        itl_curves=((1000.0, ((1.0, 0.0051), (256.0, 0.0306))),),
        kv_tokens=400_000,
        max_running_requests=256,
        chunk_tokens=8192,
        transfer_base_seconds=0.0,
        transfer_tokens_per_second=1e12,
        startup_seconds={"prefill": 60.0, "decode": 60.0},
        flip_seconds=5.0,
    )


@pytest.fixture(scope="session")
def poisson():
    """Make a trace of Poisson arrivals; lengths are constants or functions of (generator, count)."""

    def make(rps: float, count: int, inputs=1000, outputs=2, seed: int = 5) -> Trace:
        generator = np.random.default_rng(seed)
        arrivals = np.cumsum(generator.exponential(1 / rps, count))
        lengths = [
            np.asarray(tokens(generator, count) if callable(tokens) else np.full(count, tokens)).astype(np.int64)
            for tokens in (inputs, outputs)
        ]
        return Trace("poisson", arrivals, lengths[0], lengths[1], "requests")

    return make
