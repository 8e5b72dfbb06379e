"""Write tiny stand-ins for the NVIDIA libraries that the CUDA build of torch links, where there is no GPU.

`python make_stub_libraries.py SITE_PACKAGES [LIBRARY...]` reads which shared libraries torch and torchvision need and
which of their symbols, and compiles one library for each into SITE_PACKAGES/nvidia/cu13/lib. Every function returns
100, cudaErrorNoDevice. Libraries that are named after it are left alone. Needs gcc and binutils.
"""

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

NO_DEVICE = 100
"""cudaErrorNoDevice of the CUDA runtime."""

_NVIDIA = re.compile(r"lib(cu(?!da\.)|nv|nccl)")
# These give their symbols no version, so the library is known by how they begin.
_BEGINNINGS = {"cudnn": "cudnn", "cufile": "cuFile", "curand": "curand", "cusparselt": "cusparseLt", "nccl": "nccl"}
_BEGINNINGS |= {"nvshmem": "nvshmem"}
_LOADED_BY_NAME = ("libnvJitLink.so.13",)  # torch opens it at its import, and links it nowhere

Symbols = dict[str, set[str]]
"""Names of functions by the version that they are asked for with; the version may be empty."""


def write(site_packages: Path, keep: Iterable[str] = ()) -> dict[str, int]:
    """Write the libraries.

    Args:
        site_packages: where torch is installed.
        keep: file names of libraries that are not to be replaced.

    Returns:
        The number of functions of each library.

    Raises:
        FileNotFoundError: torch, gcc, nm or readelf is not there.
        subprocess.CalledProcessError: a library does not compile.
    """
    linked = [*site_packages.glob("torch/lib/*.so"), *site_packages.glob("torchvision/_C.so")]
    if not linked:
        raise FileNotFoundError(f"no torch in {site_packages}: install the packages first")
    needed = {name for library in linked for name in _needed(library) if _NVIDIA.match(name)}
    wanted = {symbol for library in linked for symbol in _undefined(library)}
    folder = site_packages / "nvidia/cu13/lib"
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name in sorted({*needed, *_LOADED_BY_NAME} - set(keep)):
        symbols = symbols_of(name, wanted)
        _compile(folder / name, symbols)
        counts[name] = sum(len(functions) for functions in symbols.values())
    return counts


def symbols_of(library: str, wanted: Iterable[str]) -> Symbols:
    """Which of the undefined symbols `NAME`, `NAME@VERSION` a library is expected to define."""
    stem = re.sub(r"^lib|_host|\.so.*", "", library).lower()
    beginning = _BEGINNINGS.get(stem)
    found: Symbols = defaultdict(set)
    for symbol in wanted:
        name, _, version = symbol.partition("@")
        version = version.lstrip("@")
        mine = version == library or version.lower() == stem
        if mine or (not version and beginning and name.startswith(beginning)):
            found[version].add(name)
    return found


def _needed(library: Path) -> list[str]:
    return re.findall(r"NEEDED.*\[(.*)\]", _output("readelf", "-dW", library))


def _undefined(library: Path) -> list[str]:
    lines = _output("nm", "-D", "--undefined-only", "--with-symbol-versions", library).splitlines()
    return [line.split()[-1] for line in lines if line.strip()]


def _compile(target: Path, symbols: Mapping[str, set[str]]) -> None:
    functions = sorted({name for names in symbols.values() for name in names})
    versions = {
        version: "".join(f"{name}; " for name in sorted(names)) for version, names in symbols.items() if version
    }
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder) / "stub.c", Path(folder) / "stub.map"
        source.write_text("".join(f"int {name}(void) {{ return {NO_DEVICE}; }}\n" for name in functions))
        script.write_text("".join(f"{version} {{ global: {names}}};\n" for version, names in versions.items()))
        options = [f"-Wl,--version-script={script}"] if versions else []
        _output(
            "gcc",
            "-w",
            "-shared",
            "-fPIC",
            "-fno-builtin",
            f"-Wl,-soname,{target.name}",
            "-o",
            target,
            source,
            *options,
        )


def _output(*command: str | Path) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    counts = write(Path(sys.argv[1]), sys.argv[2:])
    print(f"{len(counts)} libraries, {sum(counts.values())} functions")
