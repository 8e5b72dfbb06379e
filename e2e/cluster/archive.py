"""Turn what `docker save` writes into an OCI archive without the layers that a node has.

An image of the operator is hundreds of megabytes of libraries and some kilobytes of ours. containerd takes an archive
whose manifests name layers that are in its store already, so only what is new has to travel.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

_OCI = "application/vnd.oci.image"
_GZIP_MAGIC = b"\x1f\x8b"


def without_layers(
    saved: Path, target: Path, *, names: Mapping[str, Collection[str]], present: Collection[str]
) -> None:
    """Write the images of `saved` as an OCI archive.

    Args:
        saved: a tar file by `docker save`.
        target: the OCI archive to write.
        names: for each tag in `saved`, all names that the image gets where it is imported.
        present: digests (`sha256:...`) of layers to leave out.
    """
    with tarfile.open(saved) as source, tarfile.open(target, "w") as archive:
        blobs = _Blobs(archive, set(present))
        index = []
        for image in json.load(_open(source, "manifest.json")):
            config = _open(source, image["Config"]).read()
            layers = [blobs.add_layer(source, path) for path in image["Layers"]]
            manifest = {
                "schemaVersion": 2,
                "mediaType": f"{_OCI}.manifest.v1+json",
                "config": blobs.add(config, f"{_OCI}.config.v1+json"),
                "layers": layers,
            }
            described = blobs.add(json.dumps(manifest).encode(), f"{_OCI}.manifest.v1+json")
            for tag in image["RepoTags"]:
                index += [described | {"annotations": {"io.containerd.image.name": name}} for name in names[tag]]
        blobs.add_file("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        top = {"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": index}
        blobs.add_file("index.json", json.dumps(top).encode())


class _Blobs:
    """The content-addressed part of an OCI archive; each blob is written once."""

    def __init__(self, archive: tarfile.TarFile, written: set[str]) -> None:
        self._archive = archive
        self._written = written

    def add(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if digest not in self._written:
            self._written.add(digest)
            self.add_file(_path(digest), content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def add_layer(self, source: tarfile.TarFile, path: str) -> dict[str, Any]:
        with _open(source, path) as layer:
            digest = f"sha256:{hashlib.file_digest(layer, 'sha256').hexdigest()}"
            size = layer.tell()
            layer.seek(0)
            packed = layer.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            layer.seek(0)
            if digest not in self._written:
                self._written.add(digest)
                entry = tarfile.TarInfo(_path(digest))
                entry.size = size
                self._archive.addfile(entry, layer)
        return {"mediaType": f"{_OCI}.layer.v1.tar{'+gzip' if packed else ''}", "digest": digest, "size": size}

    def add_file(self, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        self._archive.addfile(entry, io.BytesIO(content))


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _open(source: tarfile.TarFile, path: str) -> io.BufferedReader:
    stream = source.extractfile(path)  # follows the links that Docker writes for layers of several images
    if stream is None:
        raise ValueError(f"{path} of the saved image is no file")
    return cast(io.BufferedReader, stream)
