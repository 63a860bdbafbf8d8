"""`fedbus signer new` and `sign`: a key that vouches for compute packages, and its signature over one."""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated

import typer
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from fedbus_schemas import signing
from fedbus_schemas.models import PackageSignature

from fedbus.errors import BadOption

signer = typer.Typer(no_args_is_help=True, help="Vouch for compute packages (docs/consent.md).")


@signer.command("new")
def new(
    key: Annotated[Path, typer.Argument(help="The file to write the secret key to.")],
) -> None:
    """Make a key, and print the public one, which data owners list in `packages.signers`.

    Example: fedbus signer new signer.key
    """
    made: ECC.EccKey = ECC.generate(curve="Ed25519")
    try:
        file = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BadOption(f"{key} cannot be written: {error.strerror}") from error
    with os.fdopen(file, "w", encoding="ascii") as out:
        out.write(signing.encode(made.seed) + "\n")
    print(_public(made))


@signer.command("sign")
def sign(
    archive: Annotated[Path, typer.Argument(help="The package's archive, as it is uploaded.")],
    key: Annotated[Path, typer.Option(help="The signer's secret key file.")],
) -> None:
    """Print the signature over an archive, for POST /v1/packages/DIGEST/signatures.

    Example: fedbus signer sign package.tgz --key signer.key
    """
    secret = _load(key)
    try:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadOption(f"{archive} cannot be read: {error.strerror}") from error
    print(json.dumps(signature(secret, digest).model_dump()))


def signature(key: ECC.EccKey, digest: str) -> PackageSignature:
    """Vouch for the package with this SHA-256."""
    signed = eddsa.new(key, "rfc8032").sign(signing.message(signing.PACKAGE, digest))
    return PackageSignature(key=_public(key), signature=signing.encode(signed))


def _load(path: Path) -> ECC.EccKey:
    try:
        return eddsa.import_private_key(signing.decode(path.read_text(encoding="ascii").strip()))
    except OSError as error:
        raise BadOption(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadOption(f"{path} is no signer's key; make one with: fedbus signer new") from error


def _public(key: ECC.EccKey) -> str:
    return signing.encode(key.public_key().export_key(format="raw"))
