"""Command line of the harness: `python -m e2e.cluster up|down|status|kubeconfig|images|lock`."""

import argparse
import shutil
import sys

from e2e.cluster import clusters, lockfiles, programs, state
from e2e.cluster.daemon import docker_session
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import build_all
from e2e.cluster.load import load
from e2e.cluster.ports import LOOPBACK
from e2e.cluster.state import State

DEFAULT_NAME = "dev"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "up":
            _describe(clusters.up(options.name, way=options.way))
        elif options.command == "down":
            clusters.down(options.name)
        elif options.command == "status":
            return _status([options.name] if options.name else state.all_names())
        elif options.command == "images":
            _images(options.name, with_sglang="sglang" in options.extra)
        elif options.command == "lock":
            lockfiles.write_all()
        else:
            print(_known(options.name).kubeconfig)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `python -m e2e.cluster down` removes what is there", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description="A kind cluster that comes up anywhere.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, default: str | None = DEFAULT_NAME) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.add_argument("--name", default=default, help="name of the cluster (default: %(default)s)")
        return added

    up = command("up", "Bring a cluster up; does nothing when it is up and well.")
    up.add_argument(
        "--way", choices=clusters.WAYS, default="auto", help="node image: %(choices)s (default: %(default)s)"
    )
    command("down", "Remove a cluster with all that belongs to it.")
    command("status", "Say what is known of a cluster, or of all.", default=None)
    command("kubeconfig", "Print the path of a cluster's kubeconfig.")
    images = command(
        "images", "Build the project's images, and load them into a cluster if one is named.", default=None
    )
    images.add_argument(
        "--with",
        dest="extra",
        action="append",
        choices=["sglang"],
        default=[],
        help="also the SGLang worker without a GPU, 2.5 GB",
    )
    commands.add_parser("lock", help="Pin all Python dependencies anew (needs uv).")
    return parser


def _known(name: str) -> State:
    known = state.load(name)
    if known is None:
        raise ClusterError(f"no cluster {name}: bring it up with `python -m e2e.cluster up --name {name}`")
    return known


def _images(name: str | None, *, with_sglang: bool) -> None:
    known = _known(name) if name else None
    with docker_session(known.docker_host if known else None) as docker:
        images = build_all(docker, with_sglang=with_sglang)
        if known:
            load(docker, known, images)
    for reference in images:
        print(reference)


def _describe(known: State) -> None:
    print(f"cluster {known.name} ({known.way} node image)")
    print(f"  export KUBECONFIG={known.kubeconfig}")
    if not shutil.which("kubectl"):
        print(f"  export PATH=$PATH:{programs.kubectl().parent}")
    if known.docker_host:
        print(f"  export DOCKER_HOST={known.docker_host}")
    for purpose, port in known.ports.items():
        print(f"  {purpose}: http://{LOOPBACK}:{port} (node port {state.NODE_PORTS[purpose]})")


def _status(names: list[str]) -> int:
    if not names:
        print("no cluster")
    well = True
    for name in names:
        known = _known(name)
        _describe(known)
        problems = clusters.trouble(known)
        print("  well" if not problems else f"  not well: {'; '.join(problems)}")
        well = well and not problems
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
