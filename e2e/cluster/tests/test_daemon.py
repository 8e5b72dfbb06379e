import os

import pytest

from e2e.cluster.daemon import docker_session, running_docker
from e2e.cluster.errors import ClusterError


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("DOCKER_HOST", raising=False)


def test_without_docker_and_without_root_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="start Docker or set DOCKER_HOST, or run as root"), docker_session():
        pass


def test_looking_for_docker_starts_none() -> None:
    assert running_docker() is None
