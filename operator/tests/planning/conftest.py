import pytest

from dopd.perf import EngineModel


@pytest.fixture(scope="session")
def model() -> EngineModel:
    """An engine with round numbers: 10 ms + 25 us a token of prefill, 5 ms + 0.1 ms a request of decode."""
    return EngineModel(
        prefill_curve=((1.0, 0.010), (2000.0, 0.060), (8000.0, 0.300)),
        itl_curves=(
            (1000.0, ((1.0, 0.0051), (256.0, 0.0306))),
            (8000.0, ((1.0, 0.0060), (256.0, 0.0600))),
        ),
        kv_tokens=400_000,
        max_running_requests=256,
        chunk_tokens=8192,
        transfer_base_seconds=0.005,
        transfer_tokens_per_second=1e6,
        startup_seconds={"prefill": 60.0, "decode": 90.0},
        flip_seconds=5.0,
    )
