import dataclasses

import pytest

from e2e.cluster import state
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import cluster_dir
from e2e.cluster.state import State

EXAMPLE = State(
    name="dev",
    way="built",
    docker_host="unix:///x.sock",
    ports={"gateway": 1, "prometheus": 2, "spare": 3},
    ready=True,
    started=["today", "today", "today"],
)


def test_what_is_saved_is_loaded() -> None:
    EXAMPLE.save()
    assert state.load("dev") == EXAMPLE


def test_a_later_save_wins() -> None:
    EXAMPLE.save()
    dataclasses.replace(EXAMPLE, ready=False).save()
    loaded = state.load("dev")
    assert loaded is not None
    assert loaded.ready is False


@pytest.mark.parametrize("text", ["", "{", '{"name": "dev"}', "[]", "null"])
def test_a_file_that_cannot_be_read_counts_as_nothing_known(text: str) -> None:
    folder = cluster_dir("dev")
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(text)
    assert state.load("dev") is None


def test_two_clusters_share_nothing() -> None:
    other = dataclasses.replace(EXAMPLE, name="ci")
    assert EXAMPLE.folder != other.folder
    assert not set(EXAMPLE.nodes) & set(other.nodes)
    EXAMPLE.save()
    other.save()
    assert state.all_names() == ["ci", "dev"]


@pytest.mark.parametrize("name", ["", "Dev", "a/b", "..", "-a", "a-", "a" * 41, "a b"])
def test_a_name_that_cannot_name_a_node_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="--name"):
        cluster_dir(name)


def test_folders_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert str(cluster_dir("dev")) == "/somewhere/dopd/clusters/dev"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cluster_dir("dev")) == "/home/someone/.local/state/dopd/clusters/dev"
