"""An earlier version of the operator: its chart, and its image."""

import tarfile
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.cache import cached
from e2e.cluster.daemon import docker_session
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import build_operator
from e2e.cluster.load import load
from e2e.cluster.paths import REPOSITORY
from e2e.cluster.state import State
from e2e.cluster.steps import output


@dataclass(frozen=True)
class Earlier:
    """An earlier version, as it is installed.

    Attributes:
        version: how people call it: a tag, or the first digits of a commit.
        image: its operator, on the nodes.
        chart: folder of its chart.
    """

    version: str
    image: str
    chart: Path


def put(cluster: State, revision: str) -> Earlier:
    """Take a revision's files out of git, build its operator, and load it on the nodes.

    Args:
        cluster: where it will run.
        revision: a tag or a commit; "" for the newest tag before this checkout.

    Raises:
        ClusterError: there is no such revision, or its image cannot be built.
    """
    version = named(revision)
    tree = files(version)
    with docker_session(cluster.docker_host) as docker:
        images = build_operator(docker, tree, version)
        load(docker, cluster, images)
    return Earlier(version, next(iter(images.values())), tree / "charts" / "dopd")


def named(revision: str) -> str:
    """The tag or the first digits of the commit that a revision is.

    Raises:
        ClusterError: there is none.
    """
    if not revision:
        try:
            return _git("describe", "--tags", "--abbrev=0", "HEAD")
        except ClusterError as error:
            raise ClusterError("no version is tagged yet: name an earlier commit, such as --from HEAD~1") from error
    try:
        return _git("describe", "--tags", "--exact-match", revision)
    except ClusterError:  # not a tag
        pass
    try:
        return _git("rev-parse", "--short=10", "--verify", f"{revision}^{{commit}}")
    except ClusterError as error:
        raise ClusterError(
            f"--from {revision}: no such commit or tag here; `git log` lists them, and `git fetch --unshallow --tags`"
            " brings those that a shallow clone lacks"
        ) from error


def files(version: str) -> Path:
    """The folder with all files of that version."""

    def unpack(folder: Path) -> None:
        packed = folder / "packed.tar"
        _git("archive", "--format=tar", f"--output={packed}", version)
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        packed.unlink()

    return cached("dopd", version, _git("rev-parse", "--short=16", f"{version}^{{commit}}"), unpack)


def _git(*arguments: str) -> str:
    return output(["git", "-C", REPOSITORY, *arguments], timeout_seconds=60.0).strip()
