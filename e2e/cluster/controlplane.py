"""etcd and the control plane as processes on loopback: a real API server in seconds, with no container and no node.

Pods are created, scheduled to no node and never run, which is what an operator's own logic needs to be tested against.
Parts can be killed and started again at exact moments. The programs come from the same build as the kind cluster's.

    with control_plane() as plane:
        plane.kubectl("create", "namespace", "demo")
"""

import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import programs
from e2e.cluster.certificates import Authority
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import BUILD_FILES
from e2e.cluster.ports import LOOPBACK, free_ports
from e2e.cluster.steps import leashed, output, tail

READY_TIMEOUT_SECONDS = 60.0
_FRONT_PROXY = ("front-proxy-ca", "front-proxy-client")


class ControlPlane:
    """A running control plane; made by `control_plane`.

    Attributes:
        folder: where certificates, data, logs and kubeconfigs lie; gone afterwards.
        url: address of the API server.
        kubeconfig: credentials of a cluster administrator.
        audit_log: the API server's audit log, one JSON object a line; written only when asked for.
    """

    def __init__(
        self, folder: Path, program_folder: Path, *, controllers: bool, scheduler: bool, audit: bool, aggregation: bool
    ) -> None:
        self.folder = folder
        self.audit_log = folder / "audit.log"
        self._programs = program_folder
        self._etcd_port, self._etcd_peer_port, self._port = free_ports(3)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.url = f"https://{LOOPBACK}:{self._port}"
        self._authority = Authority(program_folder / "kubeadm", folder, self._port)
        self._certificates = self._authority.folder
        self._authority.make("ca", "apiserver", "sa", *(_FRONT_PROXY if aggregation else ()))
        self.kubeconfig = self.kubeconfig_for("admin", groups=["system:masters"])
        self._commands: dict[str, list[str | Path]] = {
            "etcd": self._etcd(),
            "kube-apiserver": [
                *self._apiserver(audit=audit, service_accounts=controllers),
                *(self._aggregation() if aggregation else ()),
            ],
        }
        if controllers:
            self._commands["kube-controller-manager"] = self._controller_manager()
        if scheduler:
            self._commands["kube-scheduler"] = self._scheduler()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator and return what it prints.

        Raises:
            ClusterError: it failed; holds what kubectl said.
        """
        return output([str(self._programs / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments], stdin=stdin)

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig with a client certificate of `user` in `groups`, and return its path.

        For a service account use `service_account_kubeconfig`.
        """
        path = self.folder / f"{user.replace(':', '_').replace('/', '_')}.kubeconfig"
        path.write_text(self._authority.kubeconfig(user, groups))
        path.chmod(0o600)
        return path

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig with which RBAC sees the service account `name` of `namespace`, and return its path."""
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
        return self.kubeconfig_for(f"system:serviceaccount:{namespace}:{name}", groups)

    def certificates_for(self, name: str, addressed_as: Sequence[str]) -> Path:
        """Make certificates for a program beside the control plane; return their folder, see `Authority.make_for`."""
        self._authority.make_for(self.folder / name, addressed_as)
        return self.folder / name

    def start(self, part: str) -> None:
        """Start one part (`etcd`, `kube-apiserver`, ...) that does not run; does not wait until it serves.

        The part ends with the thread that starts it, see `steps.leashed`.
        """
        command = leashed(self._commands[part], "KILL")
        with self.log_of(part).open("ab") as log:
            self._processes[part] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def stop(self, part: str) -> None:
        """Ask one part to end and wait until it has."""
        self._end(part, signal.SIGTERM)

    def kill(self, part: str) -> None:
        """End one part at once, as a crash would."""
        self._end(part, signal.SIGKILL)

    def restart(self, part: str) -> None:
        """Stop one part, start it again and wait until the API server is ready."""
        self.stop(part)
        self.start(part)
        self.wait_ready()

    def log_of(self, part: str) -> Path:
        """Return the file with the output of one part."""
        return self.folder / f"{part}.log"

    def start_all(self) -> None:
        """Start every part and wait until the API server is ready."""
        self.start("etcd")
        self.start("kube-apiserver")
        self.wait_ready()
        for part in self._commands.keys() - self._processes.keys():
            self.start(part)

    def kill_all(self) -> None:
        """End every part that runs."""
        for part in list(self._processes):
            self.kill(part)

    def wait_ready(self) -> None:
        """Wait until the API server says that it is ready.

        Raises:
            ClusterError: a part ended, or a minute passed; holds the end of its log.
        """
        trusting = ssl.create_default_context(cafile=self._certificates / "ca.crt")
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            self._require_running()
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5, context=trusting):
                    return
            except OSError:  # refused, or an HTTP error while it is not ready
                time.sleep(0.05)
        raise ClusterError(
            f"the API server is not ready after {READY_TIMEOUT_SECONDS:.0f} s\n{tail(self.log_of('kube-apiserver'))}"
        )

    def _require_running(self) -> None:
        for part, process in self._processes.items():
            if process.poll() is not None:
                raise ClusterError(f"{part} ended with status {process.returncode}\n{tail(self.log_of(part))}")

    def _end(self, part: str, how: signal.Signals) -> None:
        process = self._processes.pop(part)
        process.send_signal(how)
        process.wait()

    def _etcd(self) -> list[str | Path]:
        client, peer = f"http://{LOOPBACK}:{self._etcd_port}", f"http://{LOOPBACK}:{self._etcd_peer_port}"
        return [
            self._programs / "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # the data does not outlive the test
        ]

    def _apiserver(self, *, audit: bool, service_accounts: bool) -> list[str | Path]:
        certificates = self._certificates
        command: list[str | Path] = [
            self._programs / "kube-apiserver",
            f"--etcd-servers=http://{LOOPBACK}:{self._etcd_port}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={self._port}",
            "--endpoint-reconciler-type=none",  # a loopback address cannot be the endpoint of a Service
            f"--client-ca-file={certificates / 'ca.crt'}",
            f"--tls-cert-file={certificates / 'apiserver.crt'}",
            f"--tls-private-key-file={certificates / 'apiserver.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={certificates / 'sa.pub'}",
            f"--service-account-signing-key-file={certificates / 'sa.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
        ]
        if audit:
            command += [f"--audit-policy-file={BUILD_FILES / 'audit-policy.yaml'}"]
            command += [
                f"--audit-log-path={self.audit_log}",
                "--audit-log-maxsize=10000",
            ]  # MB: one file, never turned over
        if not service_accounts:  # only the controller manager makes the `default` ones that admission asks for
            command += ["--disable-admission-plugins=ServiceAccount"]
        return command

    def _aggregation(self) -> list[str]:
        """What lets the API server pass requests on to the server of an APIService, as the user who made them."""
        certificates = self._certificates
        return [
            f"--requestheader-client-ca-file={certificates / 'front-proxy-ca.crt'}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={certificates / 'front-proxy-client.crt'}",
            f"--proxy-client-key-file={certificates / 'front-proxy-client.key'}",
        ]

    def _controller_manager(self) -> list[str | Path]:
        return [
            self._programs / "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={self._certificates / 'sa.key'}",
            f"--root-ca-file={self._certificates / 'ca.crt'}",
            "--leader-elect=false",
            "--secure-port=0",
            "--horizontal-pod-autoscaler-sync-period=1s",
        ]

    def _scheduler(self) -> list[str | Path]:
        return [
            self._programs / "kube-scheduler",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
        ]


@contextmanager
def control_plane(
    *, controllers: bool = True, scheduler: bool = False, audit: bool = False, aggregation: bool = False
) -> Iterator[ControlPlane]:
    """Run a control plane of its own on free ports, and end it afterwards.

    Args:
        controllers: run the controller manager, so that Deployments make pods and deletion is cascading.
        scheduler: run the scheduler; there is no node unless the test registers one.
        audit: write `audit_log`.
        aggregation: let an APIService name a server of its own, which a Service of type ExternalName leads to.

    Raises:
        ClusterError: it cannot be built or does not become ready.
    """
    program_folder = programs.kube()
    folder = Path(tempfile.mkdtemp(prefix="dopd-controlplane-"))
    plane = None
    try:
        plane = ControlPlane(
            folder,
            program_folder,
            controllers=controllers,
            scheduler=scheduler,
            audit=audit,
            aggregation=aggregation,
        )
        plane.start_all()
        yield plane
    finally:
        if plane:
            plane.kill_all()
        shutil.rmtree(folder, ignore_errors=True)
