"""Bring images to the nodes of a cluster, only those that a node lacks and of them only the layers that it lacks."""

import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from e2e.cluster import archive
from e2e.cluster.docker import Docker
from e2e.cluster.errors import ClusterError
from e2e.cluster.state import State
from e2e.cluster.steps import PULSE_SECONDS, say

_CTR = ("ctr", "--namespace=k8s.io")


def load(docker: Docker, state: State, images: dict[str, str]) -> None:
    """Make sure that every node has the images.

    Args:
        docker: the Docker that runs the nodes and has the images.
        state: the cluster.
        images: for each reference that manifests use, the tag by inputs that names the same image; a node that has the
            latter has the image.

    Raises:
        ClusterError: a node refused an image; holds what it said.
    """
    start = time.monotonic()
    has = {node: set(docker.execute(node, *_CTR, "images", "list", "--quiet").split()) for node in state.nodes}
    wanted = {exact: reference for reference, exact in images.items() if any(exact not in has[n] for n in state.nodes)}
    if not wanted:
        say(f"cluster {state.name} has all images")
        return
    say(f"loading {', '.join(wanted.values())} (usually 20 s a gigabyte, less when only code has changed)")
    blobs = [set(docker.execute(node, *_CTR, "content", "list", "--quiet").split()) for node in state.nodes]
    with tempfile.TemporaryDirectory(prefix="dopd-load-") as folder:
        saved, oci = Path(folder) / "saved.tar", Path(folder) / "oci.tar"
        docker.output("save", f"--output={saved}", *wanted, timeout_seconds=600)
        names = {exact: [exact, reference] for exact, reference in wanted.items()}
        archive.without_layers(saved, oci, names=names, present=set.intersection(*blobs))
        with ThreadPoolExecutor() as pool:
            imports = [pool.submit(_import, docker, node, oci, unpack=node in state.workers) for node in state.nodes]
            while wait(imports, timeout=PULSE_SECONDS).not_done:
                say(f"  loading: {time.monotonic() - start:.0f} s")
        for each in imports:
            each.result()  # raises what the import raised
        megabytes = oci.stat().st_size / 1e6
    say(f"loaded {megabytes:.0f} MB to each of {len(state.nodes)} nodes in {time.monotonic() - start:.0f} s")


def _import(docker: Docker, node: str, oci: Path, *, unpack: bool) -> None:
    # Unpacking is most of the work; the control plane's node runs no image of ours unless somebody asks it to.
    options = [] if unpack else ["--no-unpack"]
    command = ["docker", "exec", "--interactive", node, *_CTR, "images", "import", *options, "-"]
    with oci.open("rb") as stream:
        done = subprocess.run(
            command, stdin=stream, capture_output=True, text=True, env=docker.environment, check=False
        )
    if done.returncode != 0:
        raise ClusterError(f"node {node} does not take the images: {done.stderr.strip()}")
