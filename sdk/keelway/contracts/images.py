"""How an image to start from is named, and what may stand in a Dockerfile that somebody hands in."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from keelway.contracts.base import Request, Sha256
from keelway.contracts.files import FilePath

# https://github.com/distribution/reference: a host with a port, path components, a tag, a digest.
_HOST = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?))*(?::[0-9]{1,5})?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)

_DIRECTIVE = re.compile(r"\s*#\s*(syntax|escape|check)\s*=", re.IGNORECASE)
_FROM = re.compile(r"\s*FROM\s+\S", re.IGNORECASE)
_BEFORE_FROM = re.compile(r"\s*($|#|ARG\s)", re.IGNORECASE)


def _seen(text: str) -> str:
    if any(unicodedata.category(char) in {"Cc", "Cf", "Cs"} for char in text):
        raise ValueError("control, format and surrogate characters are not taken")
    return text


def _image(reference: str) -> str:
    if not _IMAGE.fullmatch(reference):
        raise ValueError("not the name of an image, such as python:3.11-slim or registry.example:5000/team/base:1.0")
    return reference


Seen = Annotated[str, AfterValidator(_seen)]
Image = Annotated[str, StringConstraints(max_length=512), AfterValidator(_image)]
RegistryAddress = Annotated[str, StringConstraints(max_length=255, pattern=rf"^{_HOST}$")]
Username = Annotated[Seen, StringConstraints(min_length=1, max_length=255)]
Password = Annotated[Seen, StringConstraints(min_length=1, max_length=65_536)]


def checked_dockerfile(text: str) -> str:
    """The text itself when it begins as a Dockerfile does; ValueError says what is wrong with it.

    A parser directive is refused: `# syntax=` names another program, from any registry, that would read the rest.
    """
    if "\0" in text or not text.encode(errors="ignore").decode() == text:
        raise ValueError("a Dockerfile holds neither NUL nor surrogates")
    for line in text.splitlines():
        if found := _DIRECTIVE.match(line):
            raise ValueError(f"the parser directive {found[1].lower()!r} is not taken")
        if not _BEFORE_FROM.match(line):
            if _FROM.match(line):
                return text
            break
    raise ValueError("a Dockerfile begins with FROM")


Dockerfile = Annotated[str, StringConstraints(max_length=262_144), AfterValidator(checked_dockerfile)]


class RegistryCredentials(Request):
    """What an image's registry wants to know. The password is never shown again."""

    address: RegistryAddress
    username: Username
    password: Password = Field(repr=False)


class BuildContext(Request):
    """A folder that an image is built from: a snapshot, and where in it the Dockerfile is."""

    snapshot: Sha256
    dockerfile: FilePath = "Dockerfile"
