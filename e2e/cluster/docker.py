"""Which Docker to use, and the few calls that the harness makes of it.

The client program speaks; there is no second implementation of Docker's protocol here.
"""

import json
import os
import select
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.cache import build_log
from e2e.cluster.errors import ClusterError
from e2e.cluster.steps import PULSE_SECONDS, output, run, say

# kind puts it on every node, with the name of the cluster.
NODE_LABEL = "io.x-k8s.kind.cluster"

PULL_ANSWER_SECONDS = 20.0


@dataclass(frozen=True)
class Docker:
    """A Docker that answers.

    Attributes:
        host: its address as in DOCKER_HOST; empty when the client's own default is right.
    """

    host: str

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with DOCKER_HOST for this Docker, for kind and the client."""
        inherited = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
        chosen = {"DOCKER_HOST": self.host} if self.host else {}
        # BuildKit is a separate download on Debian's client; the Dockerfiles need none of its features.
        return inherited | chosen | {"DOCKER_BUILDKIT": "0"}

    def output(self, *arguments: str | Path, stdin: str | None = None, timeout_seconds: float = 120.0) -> str:
        """Run `docker ARGUMENTS` and return what it prints.

        Raises:
            ClusterError: it failed; holds what it said.
        """
        return output(["docker", *arguments], stdin=stdin, timeout_seconds=timeout_seconds, env=self.environment)

    def run(self, *arguments: str | Path, what: str, log: Path, usually: str = "") -> None:
        """Run a long `docker ARGUMENTS` with progress, as `steps.run` does."""
        run(["docker", *arguments], what=what, log=log, usually=usually, env=self.environment)

    def execute(self, container: str, *command: str, stdin: str | None = None) -> str:
        """Run a command in a container and return what it prints."""
        interactive = ["-i"] if stdin is not None else []
        return self.output("exec", *interactive, container, *command, stdin=stdin)

    def has_image(self, image: str) -> bool:
        """Say whether the image is there, without pulling it."""
        try:
            self.output("image", "inspect", "--format", "{{.Id}}", image)
        except ClusterError:
            return False
        return True

    def image_id(self, image: str) -> str:
        """Return the digest of an image's configuration, which names its content."""
        return self.output("image", "inspect", "--format", "{{.Id}}", image).strip()

    def tags(self, repository: str) -> list[str]:
        """Return the images of a repository, as `repository:tag`."""
        listed = self.output("images", "--format", "{{.Repository}}:{{.Tag}}", repository).split()
        return [image for image in listed if not image.endswith(":<none>")]

    def machine(self) -> str:
        """Return the processor type of the containers, as `uname -m` says it."""
        return self.output("info", "--format", "{{.Architecture}}").strip()

    def pull(self, image: str) -> str:
        """Pull an image; return why it cannot be had, or nothing. A registry that stays silent is given up on soon."""
        say(f"pulling {image.partition('@')[0]}")
        with subprocess.Popen(
            ["docker", "pull", image],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            text=True,
        ) as pull:
            assert pull.stdout
            if not select.select([pull.stdout], [], [], PULL_ANSWER_SECONDS)[0]:
                pull.terminate()
                return f"no answer in {PULL_ANSWER_SECONDS:.0f} s"
            while True:
                try:
                    words, _ = pull.communicate(timeout=PULSE_SECONDS)
                except subprocess.TimeoutExpired:
                    say("  still pulling")
                else:
                    return words.strip().rpartition("\n")[2] if pull.returncode else ""

    def build(
        self,
        image: str,
        context: Path,
        *,
        arguments: Mapping[str, str],
        what: str,
        usually: str = "",
        dockerfile: Path = Path("Dockerfile"),
    ) -> None:
        """Build `image` from a Dockerfile in `context`.

        Args:
            image: its name and tag.
            context: folder that is sent to Docker.
            arguments: the build arguments (ARG) by name.
            what: what is built, for progress and errors.
            usually: how long it usually takes.
            dockerfile: its path in the context.
        """
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        log = build_log(image.partition(":")[0].rpartition("/")[2])
        self.run(
            "build",
            *options,
            f"--file={context / dockerfile}",
            f"--tag={image}",
            context,
            what=what,
            usually=usually,
            log=log,
        )

    def containers(self, label: str) -> list[str]:
        """Return the names of all containers with `label` (KEY or KEY=VALUE), running or not."""
        names = self.output("ps", "--all", "--filter", f"label={label}", "--format", "{{.Names}}")
        return sorted(names.split())

    def running(self, label: str) -> list[str]:
        """Return the names of the running containers with `label`."""
        return sorted(self.output("ps", "--filter", f"label={label}", "--format", "{{.Names}}").split())

    def started(self, containers: Sequence[str]) -> list[str]:
        """Return when each of the containers was started, in Docker's words."""
        return self.output("inspect", "--format", "{{.State.StartedAt}}", *containers).split()

    def address(self, container: str, network: str) -> str:
        """Return the IPv4 address of a container in a network."""
        networks = json.loads(self.output("inspect", "--format", "{{json .NetworkSettings.Networks}}", container))
        return str(networks[network]["IPAddress"])


def answers(host: str, *, timeout_seconds: float = 10.0) -> bool:
    """Say whether a Docker daemon answers at `host` (the client's default when empty)."""
    if not shutil.which("docker"):
        return False
    try:
        Docker(host).output("version", "--format", "{{.Server.Version}}", timeout_seconds=timeout_seconds)
    except ClusterError:
        return False
    return True
