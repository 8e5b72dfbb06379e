"""The steps of a release as commands. Pure: nothing is run here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DIST = Path("dist")
PLATFORMS = "linux/amd64,linux/arm64"
Command = tuple[str, ...]


@dataclass(frozen=True)
class Image:
    """An image that is published.

    Attributes:
        name: its repository in the registry.
        dockerfile: where it is, from the root of the repository.
        platforms: for which it is built.
        base_version: release of SGLang that it holds; empty for none.
    """

    name: str
    dockerfile: str
    platforms: str = PLATFORMS
    base_version: str = ""

    def tag(self, version: str) -> str:
        """Its tag. That of an engine begins with the release of SGLang: the operator reads it there."""
        return f"v{self.base_version}-dopd{version}" if self.base_version else version


@dataclass(frozen=True)
class Release:
    """One release.

    Attributes:
        version: of everything, such as 0.1.0.
        registry: where images and chart go, such as ghcr.io/example/dopd.
        images: what is built.
        digests: of images that were pushed, by name.
        helm: the program.
    """

    version: str
    registry: str
    images: tuple[Image, ...]
    digests: Mapping[str, str]
    helm: str = "helm"

    def pushed(self, image: Image) -> str:
        """An image by its content."""
        return f"{self.registry}/{image.name}@{self.digests.get(image.name, 'DIGEST')}"


def images(sglang: str) -> tuple[Image, ...]:
    """The images of a release; sglang is the release of SGLang that the worker image holds."""
    return (
        Image("operator", "operator/Dockerfile"),
        Image("simulator", "worker_images/simulator/Dockerfile"),
        # The published image of SGLang that it stands on is for one platform.
        Image("sglang", "worker_images/sglang/Dockerfile", "linux/amd64", sglang),
    )


def steps(release: Release) -> dict[str, list[Command]]:
    """The commands of each step, in the order in which a release takes them."""
    return {
        "wheel": [("python", "-m", "hatchling", "build", "--target=wheel", f"--directory={DIST}")],
        "chart": [(release.helm, "package", "charts/dopd", f"--destination={DIST}")],
        "images": [_build(release, image) for image in release.images],
        "sbom": [_bill(release, image) for image in release.images],
        "sign": [command for image in release.images for command in _signatures(release, image)],
        "publish": _publish(release),
    }


def metadata_file(image: Image) -> Path:
    """Where a build tells the digest of what it pushed."""
    return DIST / f"{image.name}.json"


def _build(release: Release, image: Image) -> Command:
    return (
        *("docker", "buildx", "build", f"--file={image.dockerfile}", f"--platform={image.platforms}"),
        f"--tag={release.registry}/{image.name}:{image.tag(release.version)}",
        *("--provenance=mode=max", f"--metadata-file={metadata_file(image)}", "--push", "."),
    )


def _bill_file(image: Image) -> Path:
    return DIST / f"{image.name}.spdx.json"


def _bill(release: Release, image: Image) -> Command:
    return ("syft", "scan", f"registry:{release.pushed(image)}", f"--output=spdx-json={_bill_file(image)}")


def _signatures(release: Release, image: Image) -> list[Command]:
    attest = ("cosign", "attest", "--yes", "--type=spdxjson", f"--predicate={_bill_file(image)}")
    return [("cosign", "sign", "--yes", release.pushed(image)), (*attest, release.pushed(image))]


def _publish(release: Release) -> list[Command]:
    wheel, chart = f"{DIST}/dopd-{release.version}-py3-none-any.whl", f"{DIST}/dopd-{release.version}.tgz"
    charts = f"{release.registry}/charts"
    bills = [str(_bill_file(image)) for image in release.images]
    title = f"v{release.version}"
    return [
        (release.helm, "push", chart, f"oci://{charts}"),
        ("cosign", "sign", "--yes", f"{charts}/dopd:{release.version}"),
        ("uv", "publish", "--trusted-publishing=automatic", wheel),
        ("gh", "release", "create", title, "--verify-tag", "--notes-file=CHANGELOG.md", wheel, chart, *bills),
    ]
