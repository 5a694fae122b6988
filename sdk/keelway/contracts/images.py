"""Images: how they are named, what may stand in a Dockerfile that somebody hands in, and what a build makes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from keelway.contracts.base import Answer, Request, Sha256
from keelway.contracts.files import FileEntry, FilePath, Manifest

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
_STEP = re.compile(r"(?:RUN|ENV|ARG|LABEL)\s+\S.*", re.IGNORECASE)
_RUN_OPTION = re.compile(r"RUN\s+--", re.IGNORECASE)
_HEREDOC = re.compile(r"<<-?\s*[\"'A-Za-z_]")


def _seen(text: str) -> str:
    if any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in text):
        raise ValueError("control, format and surrogate characters are not taken")
    return text


def _image(reference: str) -> str:
    if not _IMAGE.fullmatch(reference):
        raise ValueError("not the name of an image, such as python:3.11-slim or registry.example:5000/team/base:1.0")
    return reference


Seen = Annotated[str, AfterValidator(_seen)]
ImageReference = Annotated[str, StringConstraints(max_length=512), AfterValidator(_image)]
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


def checked_steps(text: str) -> str:
    """Instructions that may be added to an image's Dockerfile; ValueError says which line may not stand there.

    RUN, ENV, ARG and LABEL, each of which may go on over several lines: what the image starts from, who its user is and
    what it runs stay ours, and nothing reaches other images or files of the build.
    """
    _seen(text.translate({ord("\n"): None, ord("\t"): None}))
    for step in _joined(text):
        if not _STEP.fullmatch(step):
            raise ValueError(f"{step[:100]!r} is not taken: only RUN, ENV, ARG and LABEL are")
        if _RUN_OPTION.match(step):
            raise ValueError(f"{step[:100]!r}: options of RUN, such as --mount, are not taken")
        if _HEREDOC.search(step):
            raise ValueError(f"{step[:100]!r}: here-documents are not taken")
    return text


def _joined(text: str) -> Iterator[str]:
    """Instructions as the builder sees them: lines that end with a backslash go on, comments are nothing."""
    step = ""
    for line in text.split("\n"):
        if not step and _DIRECTIVE.match(line):
            raise ValueError(f"{line.strip()[:100]!r}: parser directives are not taken")
        if line.lstrip().startswith("#") or (step and not line.strip()):
            continue
        if line.rstrip().endswith("\\"):
            step += line.rstrip()[:-1] + " "
        elif step or line.strip():
            yield (step + line).strip()
            step = ""
    if step:
        raise ValueError(f"{step.strip()[:100]!r} ends with a backslash: what it goes on with is missing")


Dockerfile = Annotated[str, StringConstraints(max_length=262_144), AfterValidator(checked_dockerfile)]
ExtraSteps = Annotated[str, StringConstraints(max_length=65_536), AfterValidator(checked_steps)]
ImageName = Annotated[str, StringConstraints(max_length=128, pattern=rf"^{_COMPONENT}(?:/{_COMPONENT})*$")]
ImageLabel = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$")]


def named_registry(reference: str) -> str:
    """The registry that the name of an image says: its first part where that can be a host, else Docker Hub."""
    first, _, rest = reference.partition("/")
    return first if rest and (first == "localhost" or "." in first or ":" in first) else "docker.io"


def path_in_registry(workspace: str, image: str) -> str:
    """Where a registry has an image of a workspace: under its name, or where none can be called so, a digest of it."""
    component = workspace if re.fullmatch(_COMPONENT, workspace) else f"w-{sha256(workspace.encode()).hexdigest()[:16]}"
    return f"{component}/{image}"


class RegistryCredentials(Request):
    """What an image's registry wants to know. The password is never shown again."""

    address: RegistryAddress
    username: Username
    password: Password = Field(repr=False)


MAX_CONTEXT_BYTES = 2 * 1024**3


class BuildContext(Request):
    """A folder that an image is built from: a snapshot, and where in it the Dockerfile is."""

    snapshot: Sha256
    dockerfile: FilePath = "Dockerfile"


class EnvironmentBuild(Request):
    """What a build of an environment is for: the node itself (`process`), or an image (`docker`)."""

    target: Literal["process", "docker"] = "process"


SBOM = "sbom.cdx.json"  # among the files of an image or a package: what is in it


class Archive(Answer):
    """An image or a package as one tar. An image's is an OCI layout that `docker load` reads as well."""

    sha256: str
    size_bytes: int


class Image(Answer):
    """An image of an environment, kept as files from which any container engine can load it."""

    identity: str = Field(description="sha256 over all that went in: the same identity is the same image")
    environment: str
    name: str = Field(description="what the engine that built it calls it")
    image_id: str = Field(description="the digest of its configuration, the same on every engine")
    base_image: str
    base_id: str
    python_version: str
    size_bytes: int
    archive: Archive
    pushed: str | None = Field(default=None, description="where the operator's registry has it")
    created_at: datetime
    created_by: str


# What workers exchange with the API --------------------------------------------------------------------------


class BaseSpec(Answer):
    """The image that an environment's image starts from: none of these is the node's default."""

    base_image: str | None = None
    dockerfile: str | None = Field(default=None, description="makes it, instead of a name")
    context: list[FileEntry] = Field(default_factory=list, description="the files of a build context")
    context_dockerfile: str = "Dockerfile"
    registry: RegistryCredentials | None = None
    interpreter: str = Field(default="python", description="which Python of the image runs, where it is its own")
    is_user_managed: bool = Field(default=False, description="the image's own Python runs, with the runtime beside it")
    brings_python: bool = Field(default=False, description="conda installs the Python: the image needs none")


class ImageResult(Answer):
    """What a worker says of an image that it built and stored; `files` is the snapshot of its files."""

    identity: str
    name: str
    image_id: str
    base_image: str
    base_id: str
    python_version: str
    size_bytes: int
    files: str
    archive: Archive
    pushed: str | None = None


class StoreFiles(Request):
    """A worker opens an upload of what its operation made, in the operation's workspace."""

    epoch: int
    files: Manifest


class SealFiles(Request):
    """All bytes of such an upload are there."""

    epoch: int


class KnownImage(Answer):
    """An image that the object store has: what was said of it when it was stored, and its files."""

    result: ImageResult
    files: list[FileEntry]
