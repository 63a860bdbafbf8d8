"""Sends every client its mail: signed, one message a client and session, the newest in place of the last."""

import asyncio
from collections.abc import Mapping

from fedbus_core.rounds.mail import addressees, models, receipts, tasks
from fedbus_core.rounds.state import Session
from fedbus_runtime.ports import Streams
from fedbus_runtime.registry import ClientRegistry
from fedbus_runtime.signing_keys import Signer
from fedbus_runtime.together import together
from fedbus_schemas import signing, subjects
from fedbus_schemas.ids import DeviceKey, Sha256
from fedbus_schemas.tasks import CommandMail, Mail, SignedMail

from fedbus_controller.small_models import SmallModels

PUBLISHES_MAX = 32
"""Mails on their way to the server at once."""


class Mailing:
    """Makes, signs and publishes mail."""

    def __init__(
        self, streams: Streams, small: SmallModels, registry: ClientRegistry, signer: Signer
    ) -> None:
        self._streams = streams
        self._small = small
        self._registry = registry
        self._signer = signer

    async def send(self, state: Session) -> None:
        """Give every client that the state concerns the mail made from it. Raises `Away`.

        The first mails are on their way while the last are being signed. It stops when the state has
        moved on meanwhile: then there is newer mail to be sent.
        """
        number = state.mail_number
        inline = await self._small_models(state)
        clients = await self._registry.by_clients(state.project, addressees(state))
        slots = asyncio.Semaphore(PUBLISHES_MAX)
        async with together() as group:
            for client, record in clients.items():
                await slots.acquire()
                if state.mail_number != number:
                    break
                signed = self._sign(state, record.device, client, inline)
                group.create_task(self._publish(slots, state, record.device, signed))

    async def _publish(
        self, slots: asyncio.Semaphore, state: Session, device: DeviceKey, signed: SignedMail
    ) -> None:
        subject = subjects.mail(state.project, device, state.session)
        try:
            await self._streams.append(subject, signed.to_bytes())
        finally:
            slots.release()

    def _sign(
        self, state: Session, device: DeviceKey, client: str, inline: Mapping[Sha256, str]
    ) -> SignedMail:
        mail = Mail(
            project=state.project,
            session=state.session,
            number=state.mail_number,
            device=device,
            client=client,
            receipts=receipts(state, client),
            tasks=tasks(state, client, lambda model: inline.get(model.digest)),
        )
        return signed_mail(self._signer, mail)

    async def _small_models(self, state: Session) -> dict[Sha256, str]:
        """Read the models that are small enough to ride along."""
        found: dict[Sha256, str] = {}
        for model in models(state):
            if model.size <= state.settings.inline_bytes_max:
                found[model.digest] = await self._small.read(state.project, model)
        return found


def signed_mail(signer: Signer, mail: Mail | CommandMail) -> SignedMail:
    """Sign the exact bytes of a mail."""
    content = mail.to_bytes().decode()
    return SignedMail(mail=content, key=signer.public, signature=signer.sign(signing.MAIL, content))
