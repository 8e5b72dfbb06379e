"""What stands in for GPU packages where there is no GPU; that SGLang runs with it is shown with the real one."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

CPU = Path(__file__).parents[1] / "cpu"

KERNELS = """
import triton
import triton.language as tl
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

@triton.autotune(configs=[triton.Config({"BLOCK": 64}, num_warps=4)], key=["n"])
@triton.jit
def kernel(x, BLOCK: tl.constexpr = tl.constexpr(64), dtype: tl.dtype | None = None):
    pass

class Derived(tl.something):
    pass

assert isinstance(kernel, JITFunction)
assert (triton.cdiv(7, 4), triton.next_power_of_2(5)) == (2, 8)
for use in (lambda: kernel[(1,)](0), lambda: kernel(0), lambda: triton.runtime.driver.active):
    try:
        use()
    except RuntimeError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def stub_libraries():
    spec = importlib.util.spec_from_file_location("make_stub_libraries", CPU / "make_stub_libraries.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_library_gets_the_symbols_that_carry_its_name(stub_libraries):
    wanted = ["cublasCreate@libcublas.so.13", "cudaMalloc@@libcudart.so.13", "malloc@GLIBC_2.2.5", "free"]
    assert stub_libraries.symbols_of("libcublas.so.13", wanted) == {"libcublas.so.13": {"cublasCreate"}}
    assert stub_libraries.symbols_of("libcudart.so.13", wanted) == {"libcudart.so.13": {"cudaMalloc"}}


def test_a_library_without_versions_gets_those_that_begin_with_its_name(stub_libraries):
    wanted = ["ncclSend", "nvshmem_ptr@NVSHMEM", "cudnnCreate", "cusparseLtInit"]
    assert stub_libraries.symbols_of("libnccl.so.2", wanted) == {"": {"ncclSend"}}
    assert stub_libraries.symbols_of("libnvshmem_host.so.3", wanted) == {"NVSHMEM": {"nvshmem_ptr"}}
    assert stub_libraries.symbols_of("libcusparseLt.so.0", wanted) == {"": {"cusparseLtInit"}}


def test_a_place_without_torch_is_told(stub_libraries, tmp_path):
    with pytest.raises(FileNotFoundError, match="no torch in"):
        stub_libraries.write(tmp_path)


def test_modules_with_kernels_can_be_imported_and_kernels_cannot_run():
    command = [sys.executable, "-c", KERNELS]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(CPU / "stand_ins")}, capture_output=True, text=True, check=False, timeout=15
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("launches nothing") == 2
    assert "0 active drivers" in done.stdout
