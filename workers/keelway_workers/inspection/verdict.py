"""What bytes were found to be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

INFO, WARNING, DANGER = "info", "warning", "danger"
MAX_FINDINGS, MAX_DETAIL = 50, 1000
NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass
class Verdict:
    """The kind of some bytes, and what is worth knowing of them."""

    kind: str
    findings: list[dict[str, str]] = field(default_factory=list)

    def note(self, severity: str, code: str, detail: str) -> None:
        """Add a finding; the last that fits says that there were more."""
        clean = NOT_PRINTABLE.sub("?", detail)
        finding = {"severity": severity, "code": code, "detail": clean[: MAX_DETAIL - 4] + " ..."}
        if len(clean) <= MAX_DETAIL:
            finding["detail"] = clean
        if finding in self.findings:
            return
        if len(self.findings) >= MAX_FINDINGS - 1:
            finding = {"severity": WARNING, "code": "more-findings", "detail": "there is more than is listed here"}
            if finding in self.findings:
                return
        self.findings.append(finding)

    def take(self, other: Verdict, *, inside: str) -> None:
        """Take over what was found in a part, named by where it lies."""
        for finding in other.findings:
            self.note(finding["severity"], finding["code"], f"{inside}: {finding['detail']}")

    def as_json(self) -> dict[str, Any]:
        """For the wire."""
        return {"kind": self.kind, "findings": self.findings}


def not_inspectable(why: str) -> Verdict:
    """For bytes that the inspection did not get through."""
    verdict = Verdict("not-inspectable")
    verdict.note(WARNING, "not-inspectable", why)
    return verdict


class Unlike(Exception):  # noqa: N818
    """The bytes are not of the kind that they were read as."""
