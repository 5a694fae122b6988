"""Which objects of the store hold a blob.

Every upload writes under a key of its own, so that no object is ever written twice: bytes that turn out to be wrong can
replace no good ones, and what is deleted is never what somebody just sent again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from uuid import UUID


@dataclass(frozen=True)
class Piece:
    """`length` bytes at `offset` of one object."""

    key: str
    offset: int
    length: int


def upload_prefix(sha256: str, upload_id: UUID) -> str:
    """How the keys of all objects of one upload begin."""
    return f"blobs/sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}.{upload_id.hex}."


def part_key(sha256: str, upload_id: UUID, number: int, epoch: int) -> str:
    """The object of part `number` (from 0), as the sender of that epoch wrote it."""
    return f"{upload_prefix(sha256, upload_id)}{number:06d}.{epoch}"


@dataclass(frozen=True)
class StoredBlob:
    """A blob in parts of `part_bytes` each, the last one shorter; the part `n` is of epoch `part_epochs[n]`."""

    sha256: str
    size_bytes: int
    upload_id: UUID
    part_bytes: int
    part_epochs: tuple[int, ...]

    @property
    def keys(self) -> list[str]:
        """All objects, in the order of their bytes."""
        return [part_key(self.sha256, self.upload_id, n, epoch) for n, epoch in enumerate(self.part_epochs)]

    @property
    def parts(self) -> Iterator[Piece]:
        """All of it, piece by piece."""
        return self.pieces(0, self.size_bytes)

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Where `length` bytes from `offset` on lie."""
        first, inside = divmod(offset, self.part_bytes)
        for key in islice(self.keys, first, None):
            if length <= 0:
                return
            piece = Piece(key, inside, min(self.part_bytes - inside, length))
            yield piece
            length -= piece.length
            inside = 0


@dataclass(frozen=True)
class StoredFile:
    """A path and where its bytes lie."""

    path: str
    blob: StoredBlob

    @property
    def size_bytes(self) -> int:
        """Size of the bytes."""
        return self.blob.size_bytes

    @property
    def sha256(self) -> str:
        """Digest of the bytes."""
        return self.blob.sha256
