"""Making and checking signatures of versions with a pair of elliptic-curve keys. Needs the extra `sign`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from keelway.contracts.signatures import (
    Envelope,
    SignedFile,
    bundle,
    check_statement,
    opened,
    signed_bytes,
    statement,
)
from keelway.errors import InvalidInput, UntrustedSignature

KEYS = "a PEM file with an elliptic-curve key on P-256, P-384 or P-521"


def sign(name: str, files: Sequence[SignedFile], private_key: bytes, password: bytes | None = None) -> str:
    """The bundle that says these are the files of `name`, signed with a key in PEM.

    Raises InvalidInput for a key of another kind, and for a wrong or missing password.
    """
    try:
        key = load_pem_private_key(private_key, password)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"the private key cannot be read ({error}); wanted is {KEYS}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInput(f"the private key is of another kind; wanted is {KEYS}")
    algorithm = _algorithm(key.public_key())
    said = statement(name, files)
    return bundle(Envelope(said, key.sign(signed_bytes(said), algorithm), _hint(key.public_key())))


def check(signature: str | bytes, public_key: bytes, files: Sequence[SignedFile]) -> None:
    """Raises UntrustedSignature unless this key signed exactly these files, InvalidInput for a key of another kind."""
    key = _public_key(public_key)
    try:
        envelope = opened(signature)
        key.verify(envelope.signature, signed_bytes(envelope.statement), _algorithm(key))
        check_statement(envelope.statement, files)
    except InvalidSignature:
        raise UntrustedSignature("the signature was not made with the private key of this public key") from None
    except ValueError as error:
        raise UntrustedSignature(str(error)) from None


def _public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise InvalidInput(f"the public key cannot be read ({error}); wanted is {KEYS}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidInput(f"the public key is of another kind; wanted is {KEYS}")
    return key


def _algorithm(key: ec.EllipticCurvePublicKey) -> ec.ECDSA:
    kinds = {"secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384, "secp521r1": hashes.SHA512}
    if key.curve.name not in kinds:
        raise InvalidInput(f"the key is on the curve {key.curve.name}; wanted is {KEYS}")
    return ec.ECDSA(kinds[key.curve.name]())


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
