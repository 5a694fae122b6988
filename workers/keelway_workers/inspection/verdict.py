"""What bytes were found to be."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

INFO, WARNING, DANGER = "info", "warning", "danger"
BY_GRAVITY = (DANGER, WARNING, INFO)
MAX_FINDINGS, MAX_DETAIL = 50, 1000
NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass
class Verdict:
    """The kind of some bytes, and what is worth knowing of them. `left_out`: number of findings by severity."""

    kind: str
    findings: list[dict[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def note(self, severity: str, code: str, detail: str) -> None:
        """Add a finding; when there are too many, the least grave of them goes."""
        clean = NOT_PRINTABLE.sub("?", detail)
        finding = {"severity": severity, "code": code, "detail": clean[: MAX_DETAIL - 4] + " ..."}
        if len(clean) <= MAX_DETAIL:
            finding["detail"] = clean
        if finding in self.findings:
            return
        self.findings.append(finding)
        if len(self.findings) >= MAX_FINDINGS:  # the last place is for saying that there are more
            self._leave_one_out()

    def _leave_one_out(self) -> None:
        # Not simply the newest: a danger must not be hidden by filling the list before it.
        least = max(reversed(self.findings), key=lambda finding: BY_GRAVITY.index(finding["severity"]))
        self.findings.remove(least)
        self.left_out[least["severity"]] += 1

    def take(self, other: Verdict, *, inside: str) -> None:
        """Take over what was found in a part, named by where it lies."""
        for finding in other.findings:
            self.note(finding["severity"], finding["code"], f"{inside}: {finding['detail']}")
        self.left_out += other.left_out

    def as_json(self) -> dict[str, Any]:
        """For the wire."""
        return {"kind": self.kind, "findings": [*self.findings, *self._more()]}

    def _more(self) -> list[dict[str, str]]:
        counts = [(severity, self.left_out[severity]) for severity in BY_GRAVITY if self.left_out[severity]]
        if not counts:
            return []
        listed = ", ".join(f"{count} {severity}" for severity, count in counts)
        detail = f"{self.left_out.total()} more that are not listed: {listed}"
        return [{"severity": counts[0][0], "code": "more-findings", "detail": detail}]


def not_inspectable(why: str) -> Verdict:
    """For bytes that the inspection did not get through."""
    verdict = Verdict("not-inspectable")
    verdict.note(WARNING, "not-inspectable", why)
    return verdict


class Unlike(Exception):  # noqa: N818
    """The bytes are not of the kind that they were read as."""
