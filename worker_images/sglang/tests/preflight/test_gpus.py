"""Number of GPUs, driver and peer access."""

import json
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd_sglang.preflight import gpu_probe, gpus
from dopd_sglang.preflight.checks import check_gpus
from dopd_sglang.preflight.findings import Level
from dopd_sglang.preflight.flags import EngineFlags
from dopd_sglang.preflight.gpu_probe import driver_cuda, driver_version
from dopd_sglang.preflight.model import Folder

GIB = 2**30


def node(count, **changes):
    devices = tuple(gpus.Gpu(index, "H100", 79 * GIB, 80 * GIB) for index in range(count))
    seen = gpus.Gpus("2.14.1", torch_cuda="13.0", driver_cuda=13000, driver="580.95", devices=devices)
    return replace(seen, **changes)


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({}, Level.OK, "580.95"),
        ({"driver_cuda": 12080}, Level.REFUSED, "driver 580.95 for CUDA 12.8"),
        ({"torch_cuda": "13.1"}, Level.WARNING, "13.1 or newer"),
        ({"driver_cuda": 13020}, Level.OK, "13.2"),
        ({"driver_cuda": 0}, Level.REFUSED, "no NVIDIA driver"),
        ({"torch_cuda": ""}, Level.REFUSED, "without CUDA"),
        ({"torch_cuda": "", "torch_hip": "7.0"}, Level.SKIPPED, "ROCm 7.0"),
        ({"error": "the driver did not answer in 300 s"}, Level.REFUSED, "did not answer"),
    ],
)
def test_the_driver_has_to_know_torchs_cuda(changes, level, said):
    finding = gpus.check_driver(node(1, **changes))
    assert finding.level is level
    assert said in str(finding)


@given(driver=st.integers(1, 30000), major=st.integers(1, 30), minor=st.integers(0, 9))
def test_an_older_major_release_is_refused_and_an_older_minor_one_warned_of(driver, major, minor):
    finding = gpus.check_driver(node(1, driver_cuda=driver, torch_cuda=f"{major}.{minor}"))
    has = gpus.cuda_release(driver)
    if has[0] < major:
        assert finding.level is Level.REFUSED
    else:
        assert finding.level is (Level.WARNING if has < (major, minor) else Level.OK)


@pytest.mark.parametrize(
    ("flags", "count", "level"),
    [
        (EngineFlags(tp_size=2), 2, Level.OK),
        (EngineFlags(tp_size=4), 2, Level.REFUSED),
        (EngineFlags(tp_size=2), 4, Level.WARNING),
        (EngineFlags(tp_size=2, base_gpu_id=1), 2, Level.REFUSED),
        (EngineFlags(tp_size=2, gpu_id_step=2), 3, Level.WARNING),
        (EngineFlags(), 0, Level.REFUSED),
    ],
)
def test_there_have_to_be_as_many_gpus_as_the_flags_take(flags, count, level):
    assert gpus.check_count(node(count), flags).level is level


def test_a_refusal_names_flag_value_expectation_and_fix():
    finding = gpus.check_count(node(2), EngineFlags(tp_size=4))
    assert str(finding) == (
        "refused gpus: --tp-size 4: 2 GPUs are visible; expected at least 4; "
        "fix: a lower --tp-size, or as many GPUs in the pod's limits; see CUDA_VISIBLE_DEVICES"
    )


def test_gpus_that_do_not_reach_each_other_are_named_where_the_worker_uses_both():
    seen = node(4, no_peer=((0, 1), (2, 3)))
    assert "GPUs 0-1 do not" in str(gpus.check_peers(seen, EngineFlags(tp_size=2)))
    assert gpus.check_peers(seen, EngineFlags(tp_size=1)).level is Level.SKIPPED
    assert gpus.check_peers(node(4), EngineFlags(tp_size=4)).level is Level.OK


def test_memory_that_another_process_holds_is_told():
    devices = (gpus.Gpu(0, "H100", 40 * GIB, 80 * GIB),)
    assert "40.0 of 80.0 GiB are free" in str(gpus.check_shared(node(1, devices=devices), EngineFlags()))


def test_checks_end_at_the_first_refusal():
    findings = check_gpus(node(1), Folder(""), EngineFlags(tp_size=2))
    assert [finding.check for finding in findings] == ["driver", "gpus"]


def test_the_probes_answer_is_read_back():
    seen = node(2, no_peer=((0, 1),))
    text = json.dumps(
        {
            "torch": seen.torch,
            "torch_cuda": "13.0",
            "torch_hip": "",
            "driver_cuda": 13000,
            "driver": "580.95",
            "devices": [vars(device) for device in seen.devices],
            "no_peer": [[0, 1]],
        }
    )
    assert gpus.from_json(text) == seen


def test_the_probe_asks_torch_for_each_gpu_and_each_pair(monkeypatch):
    torch = ModuleType("torch")
    torch.__version__ = "2.14.1+cu130"
    torch.version = SimpleNamespace(cuda="13.0", hip=None)
    torch.cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 3,
        mem_get_info=lambda index: (70 * GIB, 80 * GIB),
        get_device_name=lambda index: f"H100 {index}",
        can_device_access_peer=lambda first, second: (first, second) != (2, 0),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(gpu_probe, "driver_cuda", lambda: 13000)
    seen = gpus.from_json(json.dumps(gpu_probe.facts()))
    assert (seen.torch, seen.torch_cuda, seen.torch_hip, seen.driver_cuda) == ("2.14.1+cu130", "13.0", "", 13000)
    assert seen.devices[1] == gpus.Gpu(1, "H100 1", 70 * GIB, 80 * GIB)
    assert seen.no_peer == ((0, 2),)


def test_a_probe_that_cannot_import_torch_says_so():
    assert "torch" in gpus.probe().error


@pytest.mark.parametrize("answer", ["", "no JSON", "{}", "[]"])
def test_a_probe_that_answers_something_else_says_so(monkeypatch, answer):
    done = SimpleNamespace(returncode=0, stdout=answer, stderr="")
    monkeypatch.setattr(gpus.subprocess, "run", lambda *_, **__: done)
    assert gpus.probe().error == f"the probe answered {answer!r}"


def test_a_machine_without_a_driver_knows_no_cuda():
    assert driver_cuda("libcuda-that-is-not-there.so.1") == 0


def test_the_drivers_version_is_found():
    text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\nGCC version: 12"
    assert driver_version(text) == "580.95.05"
