"""References to blobs. Bytes go through the object store; what travels is the SHA-256 that names them."""

from typing import Annotated

from pydantic import Field

from fedbus_schemas.ids import PublicKey, Sha256, Signature
from fedbus_schemas.wire import Message

TENSORS_MAX = 16_384
INLINE_BYTES_MAX = 64 * 1024
"""The largest blob that may ride inside a message."""
PACKAGE_SIGNATURES_MAX = 16


class BlobRef(Message):
    """An immutable blob: its SHA-256 and its length in bytes."""

    digest: Sha256
    size: Annotated[int, Field(ge=0)]


class PackageSignature(Message):
    """Somebody vouches for a package: the signature (`signing.PACKAGE`) over the archive's digest."""

    key: PublicKey
    signature: Signature


class PackageRef(BlobRef):
    """A compute package. `signatures`: who vouches for it; an owner's policy says whom to believe."""

    signatures: (
        Annotated[tuple[PackageSignature, ...], Field(max_length=PACKAGE_SIGNATURES_MAX)] | None
    ) = None


class ModelRef(BlobRef):
    """A model (a safetensors file), with what a combiner needs to take updates to it.

    `layout` is the SHA-256 over names, element types and shapes. `exponents` are the e of
    research "exact sums": one per tensor in name order, fixed by this model's values, so that
    everyone who folds updates to it uses the same grid.
    """

    layout: Sha256
    exponents: Annotated[tuple[int, ...], Field(max_length=TENSORS_MAX)]
