"""Run a step of a release, or say what it would run (`--dry-run`).

python -m e2e.release check                       version, tag, changelog and generated files agree
python -m e2e.release images --registry R         build for all platforms, and push
python -m e2e.release version 0.2.0               the next version, everywhere
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import dopd
from e2e.cluster import programs, versions
from e2e.release import plan

ROOT = Path(__file__).parents[2]
_VERSION_FILE = ROOT / "operator" / "dopd" / "__init__.py"
_GIT_OPS = ("argocd/root.yaml", "argocd/apps/operator.yaml", "flux/dopd.yaml")
_TAG = re.compile(r"(targetRevision|tag): v\d\S*")
_WHERE_TOOLS_ARE = {
    "docker": "https://docs.docker.com/engine/install, with buildx and QEMU for the other platform",
    "syft": "https://github.com/anchore/syft",
    "cosign": "https://docs.sigstore.dev/cosign",
    "uv": "`pip install uv`",
    "gh": "https://cli.github.com",
}


def problems(tag: str) -> list[str]:
    """What keeps this checkout from being released as `tag`; each with its fix."""
    found = []
    if tag and tag != f"v{dopd.__version__}":
        found.append(
            f"tag {tag}: expected v{dopd.__version__}, the version of the code; tag that, or change the version"
        )
    if f"\n## {dopd.__version__}" not in (ROOT / "CHANGELOG.md").read_text():
        found.append(f"CHANGELOG.md: no section {dopd.__version__}; rename Unreleased to it")
    for name, text in git_ops(dopd.__version__).items():
        if (ROOT / "config" / name).read_text() != text:
            found.append(f"config/{name}: another version; run `python -m e2e.release version {dopd.__version__}`")
    return found


def git_ops(version: str) -> dict[str, str]:
    """The files of config/ that name a version, as they should be."""
    return {name: _TAG.sub(rf"\1: v{version}", (ROOT / "config" / name).read_text()) for name in _GIT_OPS}


def set_version(version: str) -> None:
    """Write a version where it stands; `make chart` writes what follows from it.

    Raises:
        SystemExit: it is none.
    """
    # No rc: Helm and pip write it otherwise, and the operator takes an engine's tag with one for an unreleased SGLang.
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        sys.exit(f"version {version!r}: expected MAJOR.MINOR.PATCH, such as 0.2.0")
    text = _VERSION_FILE.read_text()
    _VERSION_FILE.write_text(re.sub(r'^__version__ = ".*"$', f'__version__ = "{version}"', text, flags=re.M))
    for name, content in git_ops(version).items():
        (ROOT / "config" / name).write_text(content)


def run(step: str, registry: str, *, dry: bool) -> None:
    """Run the commands of a step, one after the other, or print them.

    Raises:
        SystemExit: a program is missing, a digest is not known yet, or a command failed.
    """
    images = plan.images(versions.SGLANG)
    needs_registry = step in ("images", "sbom", "sign", "publish")
    if needs_registry and not registry:
        sys.exit(f"{step}: no registry; give --registry (REGISTRY= of make), such as ghcr.io/example/dopd")
    helm = "helm" if dry or step not in ("chart", "publish") else str(programs.helm())
    digests = {image.name: digest for image in images if (digest := pushed_digest(image))}
    if step in ("sbom", "sign") and not dry and len(digests) < len(images):
        missing = ", ".join(image.name for image in images if image.name not in digests)
        sys.exit(f"{step}: nothing was pushed yet of {missing}; run `make release-images` first")
    release = plan.Release(dopd.__version__, registry, images, digests, helm)
    for command in plan.steps(release)[step]:
        print(shlex.join(command), flush=True)
        if dry:
            continue
        program = sys.executable if command[0] == "python" else shutil.which(command[0])
        if not program:
            sys.exit(f"{command[0]} is not on PATH: get it from {_WHERE_TOOLS_ARE.get(command[0], command[0])}")
        done = subprocess.run([program, *command[1:]], cwd=ROOT, check=False)
        if done.returncode:
            sys.exit(f"{step}: {command[0]} ended with status {done.returncode}")


def pushed_digest(image: plan.Image) -> str:
    """Digest of an image that was pushed; empty for none."""
    path = ROOT / plan.metadata_file(image)
    return str(json.loads(path.read_text()).get("containerimage.digest", "")) if path.exists() else ""


def main() -> None:
    """Command line."""
    step_names = list(plan.steps(plan.Release("", "", (), {})))
    parser = argparse.ArgumentParser(prog="python -m e2e.release", description="Steps of a release.")
    parser.add_argument("step", choices=["check", "version", *step_names])
    parser.add_argument("version", nargs="?", default="", help="for version: the next one")
    parser.add_argument("--registry", default="", help="where images and chart go, such as ghcr.io/example/dopd")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    options = parser.parse_args()
    if options.step == "version":
        set_version(options.version)
    elif options.step == "check":
        found = problems(os.environ.get("TAG", ""))
        print("\n".join(found) or f"dopd {dopd.__version__} can be released")
        sys.exit(bool(found))
    else:
        (ROOT / plan.DIST).mkdir(exist_ok=True)
        run(options.step, options.registry, dry=options.dry_run)


if __name__ == "__main__":
    main()
