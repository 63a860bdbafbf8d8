"""Whether a mail is ours: a live message is noise until its signature and its address hold."""

import logging
from collections.abc import Callable

from fedbus_schemas.tasks import CommandMail, Mail, SignedMail
from pydantic import ValidationError

from fedbus._keys import Keys

log = logging.getLogger("fedbus")


class NotOurs(Exception):
    """A mail to drop. The text says why."""


def open_mail(
    signed: SignedMail,
    *,
    trusts: Callable[[SignedMail], bool],
    project: str,
    device: str,
    client: str,
) -> Mail | CommandMail:
    """Check who signed a mail and to whom it goes, then give its content. Raises `NotOurs`."""
    if not trusts(signed):
        raise NotOurs("nobody that we trust signed it")
    try:
        mail = signed.either()
    except ValidationError as error:
        raise NotOurs("it cannot be read; is this client older than the servers?") from error
    if (mail.project, mail.device, mail.client) != (project, device, client):
        raise NotOurs("it is addressed to another client")
    return mail


def read_live(data: bytes) -> SignedMail:
    """Read a message from the live subject. Raises `NotOurs`, whatever the bytes."""
    try:
        return SignedMail.model_validate_json(data)
    except ValidationError as error:
        raise NotOurs("it is not a signed mail") from error


class Letterbox:
    """Opens what comes for one client, and drops the rest with a line in the log."""

    def __init__(self, keys: Keys, project: str) -> None:
        self._keys = keys
        self._project = project
        self._noise = 0

    def live(self, data: bytes, client: str) -> Mail | CommandMail | None:
        """Open a message of the live subject."""
        try:
            signed = read_live(data)
        except NotOurs as reason:
            self._dropped(reason)
            return None
        return self.opened(signed, client)

    def opened(self, signed: SignedMail, client: str) -> Mail | CommandMail | None:
        """Open a mail."""
        keys = self._keys
        try:
            return open_mail(
                signed,
                trusts=keys.trusts,
                project=self._project,
                device=keys.device,
                client=client,
            )
        except NotOurs as reason:
            self._dropped(reason)
            return None

    def _dropped(self, reason: NotOurs) -> None:
        self._noise += 1
        # The first, second, fourth, eighth: whoever sends noise must not fill the log.
        if self._noise & (self._noise - 1) == 0:
            log.warning("dropped a mail: %s (%d so far)", reason, self._noise)
