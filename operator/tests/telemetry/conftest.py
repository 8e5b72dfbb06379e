"""Servers that stand in for Prometheus, over HTTP and HTTPS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import Certificates, Server, make_certificates, serving


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def http() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def https(certificates: Certificates) -> Iterator[Server]:
    with serving(certificates.context()) as server:
        yield server


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path
