"""Ed25519 keys that sign payloads: mail, heads, manifests. What exactly is signed: `fedbus_schemas.signing`."""

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from fedbus_schemas import signing
from fedbus_schemas.ids import PublicKey, Signature

from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.settings import read_secret


class Signer:
    """A signing key. The file holds the 32 bytes of the seed as base64url without padding."""

    def __init__(self, seed_file: Path) -> None:
        try:
            self._key = Ed25519PrivateKey.from_private_bytes(signing.decode(read_secret(seed_file)))
        except ValueError as error:
            text = f"{seed_file} holds no signing seed: 43 characters of base64url are wanted"
            raise SettingsFault(text) from error
        self.public: PublicKey = signing.encode(self._key.public_key().public_bytes_raw())

    def sign(self, domain: bytes, content: str) -> Signature:
        """Sign `content` in a domain of `fedbus_schemas.signing`."""
        return signing.encode(self._key.sign(signing.message(domain, content)))


def verify(key: PublicKey, domain: bytes, content: str, signature: Signature) -> bool:
    """Say whether `key` signed exactly this; anything malformed is a no."""
    try:
        public = Ed25519PublicKey.from_public_bytes(signing.decode(key))
        public.verify(signing.decode(signature), signing.message(domain, content))
    except (InvalidSignature, ValueError):
        return False
    return True
