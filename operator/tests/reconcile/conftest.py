"""One engine for the tests of the loop."""

import pytest

from dopd.perf import EngineModel


@pytest.fixture
def model() -> EngineModel:
    return EngineModel(
        prefill_curve=((1.0, 0.01), (1000.0, 0.1), (8000.0, 1.0)),
        itl_curves=((1000.0, ((1.0, 0.01), (100.0, 0.04))),),
        kv_tokens=200_000,
        max_running_requests=100,
        chunk_tokens=8192,
        transfer_base_seconds=0.005,
        transfer_tokens_per_second=1e6,
        startup_seconds={"prefill": 20.0, "decode": 30.0},
        flip_seconds=5.0,
    )
