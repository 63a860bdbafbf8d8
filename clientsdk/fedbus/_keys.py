"""A client's two keys, and whose signature it believes."""

import base64

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from fedbus_schemas import nkeys, signing
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.tasks import SignedMail

from fedbus.errors import BadCredentials


class Keys:
    """Signs as this client and checks who signed its mail. Holds the secrets; prints none."""

    def __init__(self, credentials: Credentials) -> None:
        try:
            payload_seed = signing.decode(credentials.payload_seed)
            device = eddsa.import_private_key(nkeys.raw_seed(credentials.device_seed))
            payload = eddsa.import_private_key(payload_seed)
        except ValueError as error:
            raise BadCredentials("a key in the credentials is not an Ed25519 key") from error
        self.device = nkeys.user_public(device.public_key().export_key(format="raw"))
        self.public = signing.encode(payload.public_key().export_key(format="raw"))
        self.token = credentials.token
        # Made once: each works out its public point again, which costs as much as signing.
        self._device = eddsa.new(device, "rfc8032")
        self._payload = eddsa.new(payload, "rfc8032")
        self._trusted = {key: eddsa.new(_public(key), "rfc8032") for key in credentials.trust}

    def sign_nonce(self, nonce: str) -> bytes:
        """Answer the bus's challenge with the device key."""
        return base64.b64encode(_sign(self._device, nonce.encode()))

    def prove(self, domain: bytes, content: str) -> str:
        """Sign with the device key: that this device asks to be let in."""
        return signing.encode(_sign(self._device, signing.message(domain, content)))

    def sign(self, domain: bytes, content: str) -> str:
        """Sign with the payload key."""
        return signing.encode(_sign(self._payload, signing.message(domain, content)))

    def trusts(self, signed: SignedMail) -> bool:
        """Whether somebody of our trust signed exactly this mail."""
        key = self._trusted.get(signed.key)
        if key is None:
            return False
        try:
            key.verify(signing.message(signing.MAIL, signed.mail), signing.decode(signed.signature))
        except ValueError:
            return False
        return True


def _sign(key: eddsa.EdDSASigScheme, content: bytes) -> bytes:
    signature: bytes = key.sign(content)
    return signature


def _public(text: str) -> ECC.EccKey:
    try:
        return eddsa.import_public_key(signing.decode(text))
    except ValueError as error:
        raise BadCredentials("a key in `trust` is not an Ed25519 public key") from error
