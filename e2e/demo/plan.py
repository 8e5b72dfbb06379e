"""What a demo would use, build and run on this machine, and about how long that takes. Nothing is started."""

import os
import shutil
from dataclasses import dataclass

from e2e.cluster import programs, versions
from e2e.cluster.daemon import running_docker
from e2e.cluster.docker import Docker
from e2e.cluster.images import IMAGES
from e2e.cluster.paths import REPOSITORY
from e2e.demo.scenario import Scenario

PLAY_ADDS = "2 min"
"""What a demo takes beside playing its trace: cluster, operator, first workers, and the end of it."""


@dataclass(frozen=True)
class Step:
    """One thing that is needed: what, where it comes from, and how long that takes; "" for no time."""

    what: str
    how: str
    takes: str = ""


def plan(scenario: Scenario) -> list[Step]:
    """All steps, in order."""
    docker = running_docker()
    return [_docker(docker), *_programs(), *_images(docker), *_runs(scenario)]


def _docker(docker: Docker | None) -> Step:
    if docker:
        return Step("Docker", f"the one that answers{f' at {docker.host}' if docker.host else ''}")
    if os.geteuid() == 0 and (shutil.which("dockerd") or shutil.which("apt-get")):
        return Step("Docker", "none answers: a daemon of our own is started, and stopped at the end", "10 s")
    return Step("Docker", "MISSING: none answers, and only root on Debian can have one started: install Docker")


def _programs() -> list[Step]:
    steps = []
    for tool in programs.installable().values():
        oldest, below = (".".join(map(str, version)) for version in tool.within)
        if found := tool.installed():
            steps.append(Step(tool.name, f"{found[0]}, version {found[1]}"))
        elif tool.made.is_dir():
            steps.append(Step(tool.name, f"built before: {tool.made}"))
        else:
            how = f"none from {oldest} to below {below} on the PATH: built from its Go module, or install one"
            without_go = "" if shutil.which("go") else " (MISSING: go, 1.26 or newer)"
            steps.append(Step(tool.name, how + without_go, tool.usually))
    return steps


def _images(docker: Docker | None) -> list[Step]:
    published = versions.PUBLISHED_NODE_IMAGE.partition("@")[0]
    if docker and docker.has_image(versions.PUBLISHED_NODE_IMAGE):
        node = Step("node image", f"{published}, which is there")
    elif docker and docker.tags("dopd.dev/node"):
        node = Step("node image", "built before, since the published one could not be had")
    else:
        how = f"{published} is pulled; where no registry answers, Kubernetes is built from its Go modules"
        node = Step("node image", how, "1 min; built, 12 to 20 min on two cores")
    steps = [node]
    for image in IMAGES:
        there = docker is not None and docker.has_image(image.reference)
        how = "there; built anew if its sources changed" if there else f"docker build -f {image.folder}/Dockerfile"
        steps.append(Step(f"image {image.reference}", how, "" if there else image.usually))
    return steps


def _runs(scenario: Scenario) -> list[Step]:
    minutes = scenario.trace_seconds / scenario.speedup / 60
    commands = (
        "kind create cluster (one control plane, two workers)",
        "kubectl apply -k e2e/manifests/prometheus",
        "helm upgrade --install dopd charts/dopd --namespace dopd-system",
        f"kubectl apply -k {scenario.manifests.relative_to(REPOSITORY)}",
    )
    runs = [Step("run", command) for command in commands]
    return [*runs, Step("run", f"the trace, {scenario.speedup:g} times as fast", f"{minutes:.0f} min and {PLAY_ADDS}")]


def told(steps: list[Step]) -> str:
    """The steps as lines."""
    width = max(len(step.what) for step in steps)
    lines = [f"  {step.what:<{width}}  {step.how}{f'  [{step.takes}]' if step.takes else ''}" for step in steps]
    return "\n".join(["A demo on this machine would take:", *lines, "Nothing was started."])
