"""A version's signature: a sigstore bundle around an in-toto statement, as OpenSSF's model-signing 1.x makes it.

https://github.com/sigstore/model-transparency (form of the statement), https://github.com/secure-systems-lab/dsse
(envelope), https://docs.sigstore.dev/about/bundle (bundle).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal, Protocol

from pydantic import FailFast, Field, StringConstraints, ValidationError

from keelway.contracts.base import Answer
from keelway.contracts.files import MAX_FILES

BUNDLE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_NAMED = 3
# Of what is the same in every bundle, with room for certificates and an entry of a log.
_BASE_BYTES = 64 * 1024
# Of a file in a statement, with room for indentation: in base64, and its name with each character escaped.
_FILE_BYTES, _CHARACTER_BYTES = 512, 16


class SignedFile(Protocol):
    """What is signed of a file."""

    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Envelope:
    """What a bundle carries: a statement, the signature over it, and how its key is called, if the bundle says that.

    Nothing of it is to be trusted before a key that is known from elsewhere has verified it.
    """

    statement: bytes
    signature: bytes
    key: str | None


class _Key(Answer):
    hint: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,256}$")] | None = None


class _Material(Answer):
    public_key: _Key | None = Field(None, alias="publicKey")


class _Signature(Answer):
    sig: str


class _Envelope(Answer):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"] = Field(alias="payloadType")
    signatures: list[_Signature] = Field(min_length=1, max_length=1)


class _Bundle(Answer):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = Field(alias="mediaType")
    material: _Material = Field(alias="verificationMaterial")
    envelope: _Envelope = Field(alias="dsseEnvelope")


class _Digest(Answer):
    sha256: str


class _Subject(Answer):
    digest: _Digest


class _Resource(Answer):
    name: str
    algorithm: Literal["sha256"]
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Serialization(Answer):
    method: Literal["files"]


class _Predicate(Answer):
    serialization: _Serialization
    resources: Annotated[list[_Resource], FailFast(), Field(max_length=MAX_FILES)]


class _Statement(Answer):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: list[_Subject] = Field(min_length=1, max_length=1)
    predicate_type: Literal["https://model_signing/signature/v1.0"] = Field(alias="predicateType")
    predicate: _Predicate


def statement(name: str, files: Iterable[SignedFile]) -> bytes:
    """The in-toto statement that these are the files of `name`, as JSON."""
    digests = _resources(list(files))
    names = sorted(digests, key=lambda name: PurePosixPath(name).parts)
    resources = [{"name": name, "algorithm": "sha256", "digest": digests[name]} for name in names]
    said = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root(digests[name] for name in names)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": resources,
        },
    }
    return json.dumps(said).encode()


def signed_bytes(statement: bytes) -> bytes:
    """What a signature is over: DSSE's pre-authentication encoding of a statement."""
    return b"DSSEv1 %d %s %d %s" % (
        len(STATEMENT_MEDIA_TYPE),
        STATEMENT_MEDIA_TYPE.encode(),
        len(statement),
        statement,
    )


def bundle(envelope: Envelope) -> str:
    """A sigstore bundle, as JSON."""
    made = {
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": envelope.key}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(envelope.statement).decode(),
            "payloadType": STATEMENT_MEDIA_TYPE,
            "signatures": [{"sig": base64.b64encode(envelope.signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(made)


def most_bytes(files: Iterable[SignedFile]) -> int:
    """What a bundle about these files may have: more than that is about something else."""
    return _BASE_BYTES + sum(_FILE_BYTES + _CHARACTER_BYTES * len(file.path) for file in files)


def opened(bundle: str | bytes) -> Envelope:
    """What a bundle carries. Raises ValueError when it is none, or not one of the form that is known here."""
    try:
        found = _Bundle.model_validate_json(bundle)
    except ValidationError as error:
        raise ValueError(f"it is no sigstore bundle of a signed statement: {_first(error)}") from None
    key = found.material.public_key.hint if found.material.public_key else None
    return Envelope(_decoded(found.envelope.payload), _decoded(found.envelope.signatures[0].sig), key)


def check_statement(statement: bytes, files: Sequence[SignedFile]) -> None:
    """Raises ValueError unless a statement names exactly these files, by exactly these digests."""
    try:
        said = _Statement.model_validate_json(statement)
    except ValidationError as error:
        raise ValueError(f"what is signed is no statement about a model's files: {_first(error)}") from None
    resources = said.predicate.resources
    if _root(one.digest for one in resources) != said.subject[0].digest.sha256:
        raise ValueError("the digest of all files in the signed statement is not that of the files in it")
    signed, ours = {one.name: one.digest for one in resources}, _resources(files)
    if len(signed) < len(resources):
        raise ValueError("the signed statement names a file twice")
    differing = {
        "not signed": ours.keys() - signed.keys(),
        "signed, but not in the version": signed.keys() - ours.keys(),
        "signed with another sha256": {name for name in ours.keys() & signed.keys() if ours[name] != signed[name]},
    }
    found = [f"{what}: {_names(names)}" for what, names in differing.items() if names]
    if found:
        raise ValueError(f"the signature is about other files; {'; '.join(found)}")


def _resources(files: Sequence[SignedFile]) -> dict[str, str]:
    """Name -> sha256, named as from inside of what a download puts on disk: its one folder, or its one file as `.`."""
    tops = {file.path.split("/", 1)[0] for file in files}
    if len(tops) == 1 and len(files) == 1 and "/" not in files[0].path:
        return {".": files[0].sha256}
    cut = len(tops.pop()) + 1 if len(tops) == 1 else 0
    return {file.path[cut:]: file.sha256 for file in files}


def _root(digests: Iterable[str]) -> str:
    root = hashlib.sha256()
    for digest in digests:
        root.update(bytes.fromhex(digest))
    return root.hexdigest()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it is no sigstore bundle of a signed statement: what should be base64 is not") from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _names(names: set[str]) -> str:
    listed = ", ".join(repr(name) for name in sorted(names)[:_NAMED])
    return f"{listed} and {len(names) - _NAMED} more" if len(names) > _NAMED else listed
