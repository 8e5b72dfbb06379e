import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from e2e.cluster.archive import without_layers

BASE, LIBRARIES, OURS = b"base layer", b"libraries", gzip.compress(b"our code")


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _saved(path: Path) -> Path:
    """What `docker save` writes for two images that share a layer, which the second links to."""
    manifest = [
        {"Config": "1.json", "RepoTags": ["one:x"], "Layers": ["a/layer.tar", "b/layer.tar"]},
        {"Config": "2.json", "RepoTags": ["two:x"], "Layers": ["c/layer.tar", "d/layer.tar"]},
    ]
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "1.json": b'{"one": 1}',
        "2.json": b'{"two": 2}',
        "a/layer.tar": BASE,
        "b/layer.tar": LIBRARIES,
        "d/layer.tar": OURS,
    }
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("c/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
        tar.addfile(link)
    return path


def _convert(folder: Path, *, present: list[str]) -> dict[str, bytes]:
    target = folder / "oci.tar"
    names = {"one:x": ["one:x"], "two:x": ["two:x", "two:dev"]}
    without_layers(_saved(folder / "saved.tar"), target, names=names, present=present)
    with tarfile.open(target) as tar:
        contents: dict[str, bytes] = {}
        for member in tar.getmembers():
            assert member.name not in contents
            stream = tar.extractfile(member)
            assert stream
            contents[member.name] = stream.read()
        return contents


def _blob(files: dict[str, bytes], digest: str) -> bytes:
    return files[f"blobs/{digest.replace(':', '/')}"]


def _manifests(files: dict[str, bytes]) -> dict[str, Any]:
    index = json.loads(files["index.json"])["manifests"]
    return {each["annotations"]["io.containerd.image.name"]: json.loads(_blob(files, each["digest"])) for each in index}


def test_every_image_is_there_under_each_of_its_names(tmp_path: Path) -> None:
    manifests = _manifests(_convert(tmp_path, present=[]))
    assert manifests.keys() == {"one:x", "two:x", "two:dev"}
    assert [layer["digest"] for layer in manifests["two:dev"]["layers"]] == [_digest(BASE), _digest(OURS)]


def test_every_blob_is_what_its_name_says(tmp_path: Path) -> None:
    files = _convert(tmp_path, present=[])
    blobs = {name: content for name, content in files.items() if name.startswith("blobs/")}
    assert len(blobs) == 3 + 2 + 2  # layers, configurations, manifests
    for name, content in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def test_layers_that_are_there_already_do_not_travel_but_are_named(tmp_path: Path) -> None:
    files = _convert(tmp_path, present=[_digest(BASE), _digest(LIBRARIES)])
    assert f"blobs/{_digest(BASE).replace(':', '/')}" not in files
    assert _blob(files, _digest(OURS)) == OURS
    layers = _manifests(files)["one:x"]["layers"]
    assert [layer["digest"] for layer in layers] == [_digest(BASE), _digest(LIBRARIES)]
    assert [layer["size"] for layer in layers] == [len(BASE), len(LIBRARIES)]


def test_a_packed_layer_is_declared_as_such(tmp_path: Path) -> None:
    layers = _manifests(_convert(tmp_path, present=[]))["two:x"]["layers"]
    assert [layer["mediaType"].rpartition(".")[2] for layer in layers] == ["tar", "tar+gzip"]
