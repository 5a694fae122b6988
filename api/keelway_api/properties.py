"""Properties: written once, so that they only grow."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from keelway.contracts.base import Tags
from keelway_api.errors import Immutable, InvalidRequest

LIMITS: TypeAdapter[dict[str, str]] = TypeAdapter(Tags)


def grown(subject: str, written: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """All of them together. Raises Immutable for a key that has another value, InvalidRequest for too many."""
    changed = sorted(key for key, value in added.items() if written.get(key, value) != value)
    if changed:
        raise Immutable(subject, changed)
    try:
        return LIMITS.validate_python({**written, **added})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidRequest("body.properties", f"with those there are: {reason}") from error
