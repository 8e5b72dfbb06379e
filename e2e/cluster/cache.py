"""Build outputs kept by the hash of what they were made from, so that the second run of anything takes no time.

An entry appears under its final name only when it is complete: a killed build leaves a `.partial` folder that the next
one clears, never half an entry.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from e2e.cluster.locks import exclusive
from e2e.cluster.paths import cache_dir


def digest(*inputs: str | bytes | Path) -> str:
    """Return 16 hex digits that change when any input does.

    Args:
        inputs: texts, bytes, files, or folders (every file below, by relative path, mode and content).
    """
    total = hashlib.sha256()
    for item in inputs:
        for part in _parts(item):
            total.update(len(part).to_bytes(8, "big"))
            total.update(part)
    return total.hexdigest()[:16]


def _parts(item: str | bytes | Path) -> Iterable[bytes]:
    if isinstance(item, str):
        yield item.encode()
    elif isinstance(item, bytes):
        yield item
    elif item.is_dir():
        for path in sorted(item.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(item)).encode()
                yield b"executable" if path.stat().st_mode & 0o100 else b"plain"
                yield path.read_bytes()
    else:
        yield item.read_bytes()


def cached(what: str, version: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder `<what>-<version>-<key>` of the cache, built by `build` when it is not there.

    Args:
        what: what it is, a word.
        version: its version, for people who look into the cache.
        key: `digest` of everything that the result depends on.
        build: fills the empty folder that it is given; what it raises leaves the cache as it was.
    """
    target = entry(what, version, key)
    if target.is_dir():
        return target
    with exclusive(cache_dir() / "locks" / target.name, waiting_for=f"it builds {what} {version}"):
        if target.is_dir():
            return target
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        build(partial)
        partial.rename(target)
    return target


def entry(what: str, version: str, key: str) -> Path:
    """The folder of the cache that `cached` fills; it is there when it is complete."""
    return cache_dir() / f"{what}-{version}-{key}"


def build_log(what: str) -> Path:
    """Return the file that gets the output of building `what`."""
    return cache_dir() / "logs" / f"{what}.log"
