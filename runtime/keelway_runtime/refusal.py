"""Requests that are answered without the user's code, each with its status."""

from __future__ import annotations

from typing import Mapping


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """The caller gets this status and message, as {"status_code": n, "message": "..."}."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class BadInput(Refusal):
    """Part of the body is not what run() declared; `path` is where, as in $.data[0][3]."""

    def __init__(self, path: str, expected: str, got: str | None = None) -> None:
        super().__init__(400, f"{path}: expected {expected}" + (f", got {got}" if got else ""))
        self.path = path
