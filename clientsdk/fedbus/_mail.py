"""Whether a mail is ours: a live message is noise until its signature and its address hold."""

from collections.abc import Callable

from fedbus_schemas.tasks import Mail, SignedMail
from pydantic import ValidationError


class NotOurs(Exception):
    """A mail to drop. The text says why."""


def open_mail(
    signed: SignedMail,
    *,
    trusts: Callable[[SignedMail], bool],
    project: str,
    device: str,
    client: str,
) -> Mail:
    """Check who signed a mail and to whom it goes, then give its content. Raises `NotOurs`."""
    if not trusts(signed):
        raise NotOurs("nobody that we trust signed it")
    try:
        mail = signed.content()
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
