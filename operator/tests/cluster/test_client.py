"""The connection to the API server."""

from pathlib import Path

import pytest
import yaml

from dopd.cluster import Kubernetes

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


@pytest.mark.parametrize(("proxies", "looked_for"), [({}, False), ({"HTTPS_PROXY": "http://proxy:3128"}, True)])
async def test_a_proxy_is_looked_for_only_where_the_environment_names_one(
    proxies: dict[str, str], looked_for: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(KUBECONFIG))
    kubernetes = await Kubernetes.connect(str(file))
    try:
        assert kubernetes.api.configuration.client_session_kwargs["trust_env"] is looked_for
    finally:
        await kubernetes.close()
