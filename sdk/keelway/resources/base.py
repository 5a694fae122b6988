"""What all resource groups share: addresses, parsing and pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from keelway.contracts.base import Page
from keelway.errors import InvalidInput, KeelwayError

if TYPE_CHECKING:
    from keelway.client import Client

Contract = TypeVar("Contract", bound=BaseModel)

# Above the server's own wait: it answers, we do not hang up a moment before.
LONG_POLL_MARGIN_S = 15.0
# For answers that take as long as there is to do: resolving an environment, checking gigabytes.
SLOW_ANSWER_S = 600.0


class Resource:
    """A group of routes."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def _workspace(self) -> str:
        return f"/v1/workspaces/{segment(self._client.workspace)}"

    def _get(self, contract: type[Contract], path: str, params: Mapping[str, Any] | None = None) -> Contract:
        return parsed(contract, self._client.request("GET", path, params=params))

    def _poll(self, contract: type[Contract], path: str, *, wait_s: float, **params: Any) -> Contract:
        """GET that the server answers when there is news, or after `wait_s`."""
        return parsed(contract, self._client.poll(path, wait_s=wait_s, params=params))

    def _send(
        self,
        contract: type[Contract],
        method: str,
        path: str,
        body: BaseModel | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Contract:
        return parsed(contract, self._client.request(method, path, json=dumped(body), timeout_s=timeout_s))

    def _pages(
        self, contract: type[Contract], path: str, params: Mapping[str, Any] | None = None
    ) -> Iterator[Contract]:
        """Every item of a list, page after page, as the caller comes to them."""
        query = dict(params or {})
        while True:
            page = self._get(Page[contract], path, query)
            yield from page.items
            if not page.next_page_token:
                return
            query["page_token"] = page.next_page_token


def segment(text: str | int) -> str:
    """A name as one segment of a path. InvalidInput for what would change the path."""
    if str(text) in {"", ".", ".."}:
        raise InvalidInput(f"{text!r} is not a name")
    return quote(str(text), safe="")


def dumped(body: BaseModel | None) -> Any:
    """A contract as JSON values."""
    return None if body is None else body.model_dump(mode="json", exclude_none=True)


def parsed(contract: type[Contract], response: httpx2.Response) -> Contract:
    """An answer's body as its contract."""
    try:
        return contract.model_validate_json(response.content)
    except ValidationError as error:
        raise KeelwayError(
            f"the answer of {response.request.url} is not what this version of the SDK understands: {error}"
        ) from error


def checked(contract: type[Contract], **fields: Any) -> Contract:
    """A request body. InvalidInput says in one line what is wrong with it."""
    try:
        return contract(**fields)
    except ValidationError as error:
        raise InvalidInput("; ".join(_sentence(dict(part)) for part in error.errors())) from error


def _sentence(part: dict[str, Any]) -> str:
    where = ".".join(str(step) for step in part["loc"])
    what = str(part["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
