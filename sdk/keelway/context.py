"""Where the command line keeps addresses and tokens.

`~/.config/keelway/credentials.json` (or below `XDG_CONFIG_HOME`), readable by its owner only.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from keelway.errors import KeelwayError


@dataclass(frozen=True)
class Context:
    """One Keelway somebody logged in to, and the workspace in use there."""

    name: str
    url: str
    token: str
    workspace: str = "default"


def file() -> Path:
    """The credentials file; it need not exist."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "keelway" / "credentials.json"


def save(name: str, url: str, token: str, workspace: str = "default") -> Context:
    """Keep a context and make it the current one."""
    context = Context(name, url.rstrip("/"), token, workspace)
    document = _read()
    document["current"] = name
    document.setdefault("contexts", {})[name] = {k: v for k, v in asdict(context).items() if k != "name"}
    _write(document)
    return context


def current() -> Context | None:
    """The context in use, if there is one."""
    document = _read()
    name = str(document.get("current"))
    fields = document.get("contexts", {}).get(name)
    if fields is None:
        return None
    try:
        return Context(name, fields["url"], fields["token"], fields.get("workspace", "default"))
    except KeyError as error:
        raise KeelwayError(f"{file()}: context {name!r} lacks {error}; `keelway login` writes it anew") from error


def use_workspace(workspace: str) -> Context:
    """Make another workspace the current context's own."""
    context = current()
    if context is None:
        raise KeelwayError("there is no context to change yet: `keelway login URL` makes one")
    return save(**asdict(replace(context, workspace=workspace)))


def _read() -> dict[str, Any]:
    try:
        document = json.loads(file().read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise KeelwayError(f"{file()} is not valid JSON ({error}); remove it and log in again") from error
    if not isinstance(document, dict):
        raise KeelwayError(f"{file()} does not hold a JSON object; remove it and log in again")
    return document


def _write(document: dict[str, Any]) -> None:
    path = file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Written beside and renamed: a reader never sees half a file, and the mode is right before the first byte.
    beside = path.with_name(f".{uuid.uuid4().hex}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(document, stream, indent=2)
    beside.replace(path)
