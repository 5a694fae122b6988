"""Garbage collection and scrubbing, for administrators."""

from __future__ import annotations

from collections.abc import Iterator

from keelway.contracts.upkeep import GcReport, ScrubReport
from keelway.resources.base import SLOW_ANSWER_S, Resource, parsed


class Upkeep(Resource):
    """`/v1/gc` and `/v1/scrub`: done in rounds of some seconds."""

    def gc(self, *, dry_run: bool = False, grace_s: float | None = None) -> Iterator[GcReport]:
        """Delete bytes that nothing has referred to for `grace_s` (the server's setting unless given), until done."""
        params = {"dry_run": dry_run, "grace_s": grace_s}
        while True:
            report = parsed(GcReport, self._client.request("POST", "/v1/gc", params=params, timeout_s=SLOW_ANSWER_S))
            yield report
            if report.is_complete:
                return

    def scrub(self) -> Iterator[ScrubReport]:
        """Have every stored byte read again and compared with its sha256, until all are."""
        since: str | None = None
        while True:
            answer = self._client.request("POST", "/v1/scrub", params={"since": since}, timeout_s=SLOW_ANSWER_S)
            report = parsed(ScrubReport, answer)
            yield report
            if report.remaining_blobs == 0:
                return
            since = report.since.isoformat()
