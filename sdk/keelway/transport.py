"""HTTP with patience: retries, backoff, and problem documents turned into exceptions."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from keelway.errors import (
    IdempotencyInFlight,
    InvalidInput,
    KeelwayError,
    OffsetMismatch,
    ProblemError,
    Unreachable,
    UploadStalled,
    UploadTakenOver,
    from_response,
)

Content = bytes | str | Callable[[], Iterable[bytes]]
"""A body. A function is called for every attempt anew: a stream that was half sent cannot be sent again."""

_CONNECT_TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_HEALS = (IdempotencyInFlight, OffsetMismatch, UploadStalled, UploadTakenOver)
_NEVER_HEALS = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.SSEError)


class Transport:
    """Requests to one Keelway. Thread-safe; connections are shared."""

    def __init__(
        self, url: str, token: str | None, *, http: httpx2.Client, retry_for_s: float, timeout_s: float
    ) -> None:
        self.url = httpx2.URL(url.rstrip("/"))
        if self.url.scheme not in {"http", "https"} or not self.url.host:
            raise InvalidInput(f"{url!r} is no http:// or https:// address")
        self.http = http
        self.retry_for_s = retry_for_s
        self.on_wait: Callable[[str], None] = lambda _: None
        """Told once for each request that is going to be tried again, and why."""
        self._token = token
        self._timeout_s = timeout_s

    def resolve(self, url: str) -> httpx2.URL:
        """An absolute address. Relative ones are below ours, which may have a path of its own behind a proxy."""
        return httpx2.URL(url if "://" in url else f"{self.url}/{url.lstrip('/')}")

    def patience(self, seconds: float | None = None) -> Patience:
        """How long one request is tried again, `retry_for_s` unless told otherwise."""
        return Patience(self.retry_for_s if seconds is None else seconds, self.on_wait)

    def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        retry_for_s: float | None = None,
        timeout_s: float | None = None,
    ) -> httpx2.Response:
        """The answer, its body read. Raises the problem's exception, or Unreachable."""
        with self.stream(
            method, url, json=json, params=params, headers=headers, content=content, retry_for_s=retry_for_s,
            timeout_s=timeout_s, read=True,
        ) as response:  # fmt: skip
            return response

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        retry_for_s: float | None = None,
        timeout_s: float | None = None,
        read: bool = False,
    ) -> Iterator[httpx2.Response]:
        """The answer as soon as it begins; its body is read by the caller, who handles a connection cut meanwhile."""
        target = self.resolve(url)
        headers = self._headers(method, target, headers)
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))
        patience = self.patience(retry_for_s)
        while True:
            request = self.http.build_request(
                method,
                target,
                json=json,
                params=_without_none(params),
                headers=headers,
                content=content() if callable(content) else content,
                timeout=timeout,
            )
            try:
                response = self._send(request, read=read)
                break
            except (httpx2.TransportError, ProblemError) as error:
                patience.wait(error, what=f"{method} {target}")
        try:
            yield response
        finally:
            response.close()

    def _send(self, request: httpx2.Request, *, read: bool) -> httpx2.Response:
        response = self.http.send(request, stream=True)
        try:
            accepted = response.is_success or response.status_code == httpx2.codes.NOT_MODIFIED
            if read or not accepted:
                response.read()
            if not accepted:
                raise _problem(response)
        except BaseException:
            response.close()
            raise
        return response

    def _headers(self, method: str, target: httpx2.URL, headers: Mapping[str, str] | None) -> dict[str, str]:
        own: dict[str, str] = {}
        # An upload may go to an object store elsewhere: the token is for this API's eyes only.
        if self._token and _origin(target) == _origin(self.url):
            own["Authorization"] = f"Bearer {self._token}"
        if method == "POST":
            own["Idempotency-Key"] = str(uuid.uuid4())
        return own | dict(headers or {})


class Patience:
    """Says whether to try again: with growing, jittered pauses, until `seconds` after the first failure."""

    def __init__(self, seconds: float, on_wait: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._on_wait = on_wait
        self._until: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    def wait(self, error: Exception, *, what: str) -> None:
        """Sleep before the next attempt, or raise when this error does not heal or the time is used up."""
        now = time.monotonic()
        is_first = self._until is None
        if self._until is None:
            self._until = now + self._seconds
        pause_s = max(self._pause_s * random.uniform(0.5, 1.0), _retry_after_s(error))  # noqa: S311  (no secret)
        if not _may_heal(error) or now + pause_s > self._until:
            raise _final(error, what) from error
        if is_first:
            self._on_wait(f"{_final(error, what)}; trying again for up to {self._seconds:g} s")
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        time.sleep(pause_s)

    def reset(self) -> None:
        """There was progress: the next failure is a first one again."""
        self._until = None
        self._pause_s = _FIRST_PAUSE_S


def _problem(response: httpx2.Response) -> ProblemError:
    problem = from_response(response)
    problem.retry_after_s = _seconds(response.headers.get("retry-after"))
    return problem


def _may_heal(error: Exception) -> bool:
    if isinstance(error, ProblemError):
        return error.status == httpx2.codes.SERVICE_UNAVAILABLE or isinstance(error, _HEALS)
    return not isinstance(error, _NEVER_HEALS)


def _final(error: Exception, what: str) -> KeelwayError:
    if isinstance(error, KeelwayError):
        return error
    if isinstance(error, httpx2.LocalProtocolError):
        return InvalidInput(f"{what} cannot be sent: {error}")
    return Unreachable(f"{what}: {error or type(error).__name__}")


def _retry_after_s(error: Exception) -> float:
    return error.retry_after_s if isinstance(error, ProblemError) else 0.0


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:  # the HTTP-date form, which this API does not send
        return 0.0


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _without_none(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if params is None:
        return None
    return {key: value for key, value in params.items() if value is not None}
