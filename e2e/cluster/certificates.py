"""kubeadm as the certificate authority of a control plane on loopback."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import versions
from e2e.cluster.ports import LOOPBACK
from e2e.cluster.steps import output

# kubeadm refuses a loopback address to advertise, and the certificates carry 127.0.0.1 anyway: this one, reserved for
# documentation, only keeps it from looking for a network interface.
_KUBEADM_CONFIG = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {version}
certificatesDir: {certificates}
encryptionAlgorithm: ECDSA-P256
controlPlaneEndpoint: {host}:{port}
apiServer: {{certSANs: [{names}]}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: 192.0.2.1, bindPort: {port}}}
"""


class Authority:
    """Makes the certificates of one control plane.

    Attributes:
        folder: with the certificates of the control plane itself, named as kubeadm names them.
    """

    def __init__(self, kubeadm: Path, folder: Path, port: int) -> None:
        """Begin with no certificate.

        Args:
            kubeadm: the program.
            folder: for its files.
            port: of the API server, on loopback.
        """
        self._program, self._port = kubeadm, port
        self.folder = folder / "certificates"
        self._config = folder / "kubeadm.yaml"
        self._config.write_text(self._settings(self.folder, ()))

    def make(self, *names: str) -> None:
        """Make certificates by the names that kubeadm has for them, such as `ca` and `apiserver`."""
        for name in names:
            self._kubeadm(self._config, "init", "phase", "certs", name)

    def kubeconfig(self, user: str, groups: Sequence[str]) -> str:
        """Return a kubeconfig with a client certificate of a user."""
        organizations = [f"--org={group}" for group in groups]
        return self._kubeadm(self._config, "kubeconfig", "user", f"--client-name={user}", *organizations)

    def make_for(self, folder: Path, addressed_as: Sequence[str]) -> None:
        """Make certificates for a program beside the control plane, signed by the same authority.

        Args:
            folder: gets `ca.crt`; `tls.crt` and `tls.key` for its server; `client.crt` and `client.key` for itself as a
                client.
            addressed_as: DNS names that it is called by, beside `localhost` and 127.0.0.1.
        """
        folder.mkdir(parents=True)
        for name in ("ca.crt", "ca.key"):
            shutil.copyfile(self.folder / name, folder / name)
        config = folder / "kubeadm.yaml"
        config.write_text(self._settings(folder, addressed_as))
        for phase, ours in (("apiserver", "tls"), ("apiserver-kubelet-client", "client")):
            self._kubeadm(config, "init", "phase", "certs", phase)
            for suffix in ("crt", "key"):
                (folder / f"{phase}.{suffix}").rename(folder / f"{ours}.{suffix}")

    def _settings(self, certificates: Path, addressed_as: Sequence[str]) -> str:
        names = ", ".join([LOOPBACK, "localhost", *addressed_as])
        return _KUBEADM_CONFIG.format(
            version=versions.KUBERNETES, certificates=certificates, host=LOOPBACK, port=self._port, names=names
        )

    def _kubeadm(self, config: Path, *arguments: str) -> str:
        return output([self._program, *arguments, "--config", config])
