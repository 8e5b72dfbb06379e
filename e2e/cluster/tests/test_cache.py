from pathlib import Path

import pytest

from e2e.cluster.cache import cached, digest


def _tree(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_equal_folders_have_equal_digests(tmp_path: Path) -> None:
    assert digest(_tree(tmp_path / "one", a="1", b="2")) == digest(_tree(tmp_path / "two", b="2", a="1"))


@pytest.mark.parametrize("other", [{"a": "1", "b": "3"}, {"a": "1"}, {"a": "1", "c": "2"}, {"a": "12", "b": ""}])
def test_a_change_of_name_or_content_changes_the_digest(tmp_path: Path, other: dict[str, str]) -> None:
    assert digest(_tree(tmp_path / "one", a="1", b="2")) != digest(_tree(tmp_path / "two", **other))


def test_making_a_file_executable_changes_the_digest(tmp_path: Path) -> None:
    folder = _tree(tmp_path / "one", a="1")
    before = digest(folder)
    (folder / "a").chmod(0o755)
    assert digest(folder) != before


def test_where_one_input_ends_matters() -> None:
    assert digest("ab", "c") != digest("a", "bc")


def test_an_entry_is_built_once() -> None:
    builds = []

    def build(target: Path) -> None:
        builds.append(target)
        (target / "out").write_text("built")

    first = cached("thing", "v1", "0123", build)
    assert cached("thing", "v1", "0123", build) == first
    assert (first / "out").read_text() == "built"
    assert len(builds) == 1


def test_a_failed_build_leaves_no_entry_and_the_next_one_starts_clean() -> None:
    def fail(target: Path) -> None:
        (target / "half").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cached("thing", "v1", "0123", fail)
    entry = cached("thing", "v1", "0123", lambda target: None)
    assert list(entry.iterdir()) == []
