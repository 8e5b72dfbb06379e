"""RDMA, ports and folders."""

import errno
import json
import socket
from dataclasses import replace

import pytest

from dopd_sglang.preflight import host, transfer
from dopd_sglang.preflight.findings import Level
from dopd_sglang.preflight.flags import EngineFlags
from dopd_sglang.preflight.transfer import Rdma

GIB = 2**30
TWO = Rdma(("mlx5_0", "mlx5_1"), usable=True)
PREFILL = EngineFlags(disaggregation_mode="prefill")


@pytest.mark.parametrize(
    ("rdma", "backend", "level"),
    [
        (TWO, "mooncake", Level.OK),
        (Rdma(), "mooncake", Level.REFUSED),
        (Rdma(), "mori", Level.REFUSED),
        (Rdma(), "nixl", Level.WARNING),
        (Rdma(), "mooncake_tcp", Level.SKIPPED),
        (replace(TWO, usable=False), "mooncake", Level.REFUSED),
        (replace(TWO, locked_bytes=65536), "mooncake", Level.WARNING),
        (Rdma(without="MC_FORCE_TCP=1"), "mooncake", Level.OK),
    ],
)
def test_the_backend_finds_what_it_wants(rdma, backend, level):
    assert transfer.check(rdma, replace(PREFILL, disaggregation_transfer_backend=backend)).level is level


def test_nothing_is_asked_of_an_engine_that_transfers_nothing():
    assert transfer.check(Rdma(), EngineFlags()).level is Level.SKIPPED


@pytest.mark.parametrize("value", ["mlx5_0", "mlx5_0, mlx5_1", '{"0": "mlx5_0", "1": "mlx5_0,mlx5_1"}'])
def test_named_devices_are_there(value):
    assert transfer.check(TWO, replace(PREFILL, disaggregation_ib_device=value)).level is Level.OK


@pytest.mark.parametrize("value", ["mlx5_9", '{"0": "mlx5_9"}', "{", "/nowhere.json", " "])
def test_devices_that_are_not_there_are_refused(value):
    finding = transfer.check(TWO, replace(PREFILL, disaggregation_ib_device=value))
    assert finding.level is Level.REFUSED
    assert f"--disaggregation-ib-device {value}" in finding.found


def test_devices_may_stand_in_a_file(tmp_path):
    file = tmp_path / "devices.json"
    file.write_text(json.dumps({"0": "mlx5_1"}))
    assert transfer.named_devices(str(file)) == ["mlx5_1"]


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ""),
        ({"MC_FORCE_TCP": "1"}, "MC_FORCE_TCP=1"),
        ({"MC_FORCE_TCP": "0"}, ""),
        ({"MOONCAKE_PROTOCOL": "efa"}, "MOONCAKE_PROTOCOL=efa"),
        ({"SGLANG_MOONCAKE_CUSTOM_MEM_POOL": "NVLINK"}, "SGLANG_MOONCAKE_CUSTOM_MEM_POOL=NVLINK"),
    ],
)
def test_mooncake_has_ways_without_rdma(environment, found):
    assert transfer.other_way(environment) == found


@pytest.mark.parametrize(
    ("flags", "ports"),
    [
        (EngineFlags(), ["--port"]),
        (PREFILL, ["--port", "--disaggregation-bootstrap-port"]),
        (EngineFlags(disaggregation_mode="decode"), ["--port"]),
        (
            EngineFlags(disaggregation_mode="decode", enable_pd_role_switch=True),
            ["--port", "--disaggregation-bootstrap-port"],
        ),
        (EngineFlags(grpc_port=40000), ["--port", "--grpc-port"]),
    ],
)
def test_the_ports_that_an_engine_opens(flags, ports):
    assert list(host.ports(flags)) == ports


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        finding = host.check_port("--port", "127.0.0.1", port, host.bind_error("127.0.0.1", port))
    assert finding.level is Level.REFUSED
    assert finding.found == f"--port {port} on --host 127.0.0.1 is taken"
    assert host.bind_error("127.0.0.1", port) == 0


def test_an_address_of_another_machine_is_refused():
    finding = host.check_port("--port", "192.0.2.1", 30000, host.bind_error("192.0.2.1", 0))
    assert (finding.level, finding.fix) == (Level.REFUSED, "--host 0.0.0.0")
    assert "above 1023" in host.check_port("--port", "0.0.0.0", 80, errno.EACCES).expected


def test_a_cache_is_writable_and_large_enough(tmp_path):
    space = host.probe_space(str(tmp_path / "new" / "cache"))
    assert space.error == ""
    assert host.check_cache(replace(space, free_bytes=6 * GIB)).level is Level.OK
    assert host.check_cache(replace(space, free_bytes=GIB)).level is Level.WARNING
    (tmp_path / "file").touch()
    finding = host.check_cache(host.probe_space(str(tmp_path / "file" / "cache")))
    assert finding.level is Level.REFUSED
    assert "SGLANG_CACHE_DIR" in finding.found


def test_the_cache_is_where_sglang_looks_for_it():
    assert host.cache_folder({"SGLANG_CACHE_DIR": "/c", "HOME": "/h"}) == "/c"
    assert host.cache_folder({"HOME": "/h"}) == "/h/.cache/sglang"


def test_several_gpus_need_shared_memory():
    small = host.Space("/dev/shm", free_bytes=64 * 2**20)
    assert host.check_shared_memory(small, EngineFlags(tp_size=2)).level is Level.WARNING
    assert host.check_shared_memory(small, EngineFlags()).level is Level.OK
    assert host.check_temporary(host.Space("/tmp", error="Read-only file system")).level is Level.REFUSED
