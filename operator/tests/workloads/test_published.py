"""Deployments that people publish, in our words: what becomes of their pods, as text that a reviewer reads as a diff.

After a wanted change run pytest with DOPD_WRITE_GOLDEN=1, read the difference, and commit it. That Kubernetes takes
these pods is tested against a real API server.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner
from dopd.workloads.engines import worker_template

HERE = Path(__file__).parent
PUBLISHED = sorted((HERE / "published").glob("*.yaml"))


def pods(path: Path) -> str:
    resource: dict[str, Any] = yaml.safe_load(path.read_text())
    spec = DisaggregatedInferenceSpec.model_validate(resource["spec"])
    owner = Owner(resource["metadata"]["name"], "ns", "uid")
    made = {str(role): worker_template(owner, spec, role) for role in Role}
    text: str = yaml.dump(made, Dumper=_Plain, sort_keys=False, width=110)
    return text


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Plain.add_multi_representer(str, lambda dumper, text: dumper.represent_str(str(text)))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_its_pods(path: Path):
    golden = HERE / "golden" / path.name
    if os.environ.get("DOPD_WRITE_GOLDEN"):
        golden.write_text(pods(path))
    assert pods(path) == golden.read_text()
