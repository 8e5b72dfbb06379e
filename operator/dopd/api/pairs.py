"""Pairs of revisions, of one domain: who may share a request. A gateway serves the workers of one pair alone."""

import hashlib
from typing import NamedTuple

from dopd.api.base import GROUP
from dopd.api.names import DOMAIN_LABEL, Role

PREFILL_REVISION_LABEL = f"{GROUP}/prefill-revision"
DECODE_REVISION_LABEL = f"{GROUP}/decode-revision"
"""On gateways: the revisions of the workers that they send to. Absent on those of earlier versions, which list all."""


class Pair(NamedTuple):
    """Two revisions that the spec had at the same time; "" stands for any. `domain`: where its workers are."""

    prefill: str
    decode: str
    domain: str = ""

    def of(self, role: Role) -> str:
        """The revision of a role."""
        return self.prefill if role is Role.PREFILL else self.decode

    def has(self, role: Role, revision: str, domain: str) -> bool:
        """Whether workers of a revision, in a domain, belong to it."""
        return self.of(role) in ("", revision) and self.domain in ("", domain)

    @property
    def name(self) -> str:
        """Short name, for the gateway's objects; "" for any."""
        parts = self if self.domain else self[:2]
        return hashlib.sha256("-".join(parts).encode()).hexdigest()[:8] if any(self) else ""

    @property
    def labels(self) -> dict[str, str]:
        """Labels of its gateway."""
        domain = {DOMAIN_LABEL: self.domain} if self.domain else {}
        revisions = {PREFILL_REVISION_LABEL: self.prefill, DECODE_REVISION_LABEL: self.decode}
        return {**revisions, **domain} if any(self) else {}

    @classmethod
    def of_labels(cls, labels: dict[str, str]) -> "Pair":
        """The pair that a gateway's labels name; ANY where they name none."""
        return cls(
            labels.get(PREFILL_REVISION_LABEL, ""),
            labels.get(DECODE_REVISION_LABEL, ""),
            labels.get(DOMAIN_LABEL, ""),
        )


ANY = Pair("", "")
"""Workers of all revisions and domains: whom the gateways of earlier versions list."""
