"""A release: its commands, its version in one place, and the workflows, whose steps are all verbs of make."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import dopd
from dopd.workloads.sglang_versions import version_of_image
from e2e.cluster import images as test_images
from e2e.cluster import versions
from e2e.release import __main__ as command
from e2e.release import plan

ROOT = Path(__file__).parents[3]
WORKFLOWS = ROOT / ".github" / "workflows"
IMAGES = plan.images(versions.SGLANG)
RELEASE = plan.Release("1.2.3", "r.example/dopd", IMAGES, {image.name: f"sha256:{image.name}" for image in IMAGES})


def commands(step: str) -> list[str]:
    return [" ".join(each) for each in plan.steps(RELEASE)[step]]


def test_images_are_built_for_all_platforms_from_files_that_are_there() -> None:
    for image, line in zip(IMAGES, commands("images"), strict=True):
        assert (ROOT / image.dockerfile).exists()
        assert f"--platform={image.platforms}" in line
        assert f"--tag=r.example/dopd/{image.name}:{image.tag('1.2.3')}" in line
    assert IMAGES[0].platforms == "linux/amd64,linux/arm64"


def test_the_tag_of_an_engine_tells_the_operator_its_release_of_sglang() -> None:
    (sglang,) = [image for image in IMAGES if image.base_version]
    tag = sglang.tag(dopd.__version__)
    assert version_of_image(f"r/sglang:{tag}") == tuple(int(part) for part in versions.SGLANG.split("."))


def test_what_is_signed_is_what_was_pushed() -> None:
    for line in commands("sign"):
        assert "@sha256:" in line
    assert len(commands("sbom")) == len(IMAGES)


def test_the_images_that_test_clusters_take_from_a_registry_are_published() -> None:
    assert set(test_images.RELEASED) <= {image.name for image in IMAGES}


def test_config_names_the_version_of_the_code() -> None:
    for name, text in command.git_ops(dopd.__version__).items():
        assert f"v{dopd.__version__}" in text
        assert (ROOT / "config" / name).read_text() == text


def test_another_tag_is_refused() -> None:
    (first, *_) = command.problems("v9.9.9")
    assert first.startswith(f"tag v9.9.9: expected v{dopd.__version__}")


@pytest.mark.parametrize("version", ["1.2", "v1.2.3", "1.2.3rc1", ""])
def test_a_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(SystemExit, match=r"expected MAJOR\.MINOR\.PATCH"):
        command.set_version(version)


def test_a_step_without_a_registry_says_what_to_give() -> None:
    with pytest.raises(SystemExit, match="REGISTRY= of make"):
        command.run("images", "", dry=True)


def test_a_dry_run_says_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for step in plan.steps(RELEASE):
        command.run(step, "r.example/dopd", dry=True)
    shown = capsys.readouterr().out
    for program in ("docker buildx build", "syft scan", "cosign sign", "helm push", "uv publish", "gh release"):
        assert program in shown


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text())
    return found


@pytest.mark.parametrize("name", sorted(path.name for path in WORKFLOWS.iterdir()))
def test_each_step_of_a_workflow_is_a_verb_of_make(name: str) -> None:
    verbs = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    runs = [step["run"] for job in workflow(name)["jobs"].values() for step in job["steps"] if "run" in step]
    assert runs
    for run in runs:
        program, verb, *_ = run.split()
        assert (program, verb in verbs) == ("make", True), run


def test_nothing_is_signed_or_published_before_the_published_images_were_tried() -> None:
    jobs = workflow("release.yaml")["jobs"]

    def before(name: str) -> set[str]:
        needs = jobs[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct | {further for need in direct for further in before(need)}

    assert {"check", "images", "e2e-published"} <= before("publish")
    assert "check" in before("images")
