"""What the operator writes reaches the plugin of a real prefill engine; what it reads there becomes the condition."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.reconcile.prompt_order import order_verdict
from dopd.telemetry.prompt_order import parse_prompt_order
from dopd.workloads import Owner
from dopd.workloads.engine_order import engine_order
from dopd.workloads.scheduling import FILE, scheduling_config
from e2e.sglang.engines import SPEC, StartedEngine, plugin_folder, start_engine
from e2e.sglang.fleet import Fleet
from e2e.sglang.install import IMAGE_FOLDER
from e2e.sglang.settings_file import replace_whole

pytestmark = pytest.mark.timeout(120, func_only=True)


def spec(**scheduling: Any) -> DisaggregatedInferenceSpec:
    """A resource with an image whose name promises this release."""
    raw = SPEC.model_dump(by_alias=True, exclude_unset=True)
    raw["engine"]["image"] = "lmsysorg/sglang:v0.5.23"
    return DisaggregatedInferenceSpec.model_validate({**raw, "scheduling": scheduling})


def put(path: Path, wanted: DisaggregatedInferenceSpec) -> None:
    """Replace the file whole, as the kubelet does."""
    replace_whole(path, scheduling_config(Owner("m", "ns", "uid"), wanted)["data"][FILE])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scheduling") / FILE
    put(path, spec())
    return path


@pytest.fixture(scope="module")
def prefill(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedEngine]:
    """A worker with the plugin, and with the flag that the operator sets for such an image."""
    flags = engine_order(spec()).flags
    assert flags
    plugins = [plugin_folder(IMAGE_FOLDER, tmp_path_factory.mktemp("plugin"))]
    with Fleet() as fleet:
        environment = {"DOPD_SCHEDULING_FILE": str(file)}
        engine = start_engine(fleet, Role.PREFILL, *flags, environment=environment, plugins=plugins)
        engine.server.wait_until_ready()
        yield engine


def reason(engine: StartedEngine, wanted: DisaggregatedInferenceSpec) -> str:
    """Why the condition has its status, with this one worker."""
    text = httpx.get(f"{engine.url}/metrics", timeout=30).text
    verdict = order_verdict(wanted, {"m-prefill-x": parse_prompt_order(text)})
    assert verdict
    return verdict[1]


def test_the_order_is_the_plugins_beside_the_engines_own_and_follows_the_spec(
    prefill: StartedEngine, file: Path
) -> None:
    assert reason(prefill, spec()) == "PluginOrders"
    changed = spec(policy="ShortestFirst")
    assert reason(prefill, changed) == "OldSettings"
    put(file, changed)
    deadline = time.monotonic() + 30
    while reason(prefill, changed) != "PluginOrders":
        httpx.get(f"{prefill.url}/health", timeout=30)  # the kubelet's liveness probe: an idle worker looks then
        assert time.monotonic() < deadline, "the plugin has not taken the settings over"
        time.sleep(0.5)
