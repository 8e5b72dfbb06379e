"""Which version is meant, in a repository of the test's own."""

import subprocess
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.upgrade import earlier


def git(repository: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", "-C", repository, *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits; the chart of the first says so."""
    made = tmp_path / "repository"
    (made / "charts" / "dopd").mkdir(parents=True)
    git(made, "init", "--quiet")
    for number in ("first", "second"):
        (made / "charts" / "dopd" / "Chart.yaml").write_text(number)
        git(made, "add", ".")
        git(made, "commit", "--quiet", "--message", number)
    monkeypatch.setattr(earlier, "REPOSITORY", made)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


def test_the_newest_tag_is_meant_where_nothing_is_named(repository: Path) -> None:
    git(repository, "tag", "v0.1.0", "HEAD~1")
    assert earlier.named("") == "v0.1.0"


def test_a_commit_is_called_by_its_first_digits_and_a_tag_by_its_name(repository: Path) -> None:
    assert git(repository, "rev-parse", "HEAD~1").startswith(earlier.named("HEAD~1"))
    git(repository, "tag", "v0.1.0", "HEAD~1")
    assert earlier.named("HEAD~1") == "v0.1.0"


@pytest.mark.parametrize(("revision", "told"), [("", "--from HEAD~1"), ("v9", "--from v9: no such commit or tag")])
def test_what_is_not_there_is_told_with_what_to_do(repository: Path, revision: str, told: str) -> None:
    with pytest.raises(ClusterError, match=told):
        earlier.named(revision)


def test_its_files_are_those_of_then(repository: Path) -> None:
    folder = earlier.files(earlier.named("HEAD~1"))
    assert [path.name for path in folder.iterdir()] == ["charts"]
    assert (folder / "charts" / "dopd" / "Chart.yaml").read_text() == "first"
