"""A client that does as it likes: real credentials, the raw bus, and a signature under anything."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Self

import httpx
import nats.errors
from fedbus._keys import Keys
from fedbus_schemas import signing, subjects
from fedbus_schemas.asks import (
    Answer,
    Grant,
    GrantRequest,
    Hello,
    PendingUpdate,
    SessionReceipt,
    Stored,
    Sync,
)
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.models import BlobRef
from fedbus_schemas.tasks import TrainTask
from fedbus_schemas.updates import Manifest
from nats.aio.client import Client

from tests.stacks import eventually

ASK_TIMEOUT_S = 10.0


def blob_of(content: bytes) -> BlobRef:
    """Name a blob as an honest client would."""
    return BlobRef(digest=sha256(content).hexdigest(), size=len(content))


@dataclass(slots=True)
class Rogue:
    """One connection to the bus with a client's own keys."""

    credentials: Credentials
    keys: Keys
    nats: Client
    client: str = ""
    session: str = ""
    task: TrainTask | None = None
    errors: list[str] = field(default_factory=list)

    @classmethod
    async def connect(cls, credentials: Credentials) -> Self:
        """Connect as this client."""
        made = cls(credentials, Keys(credentials), Client())
        made.nats._public_nkey = made.keys.device
        try:
            await made.nats.connect(
                servers=list(credentials.servers),
                signature_cb=made.keys.sign_nonce,
                user_jwt_cb=made.keys.token.encode if made.keys.token is not None else None,
                inbox_prefix=f"_INBOX.{made.keys.device}".encode(),
                allow_reconnect=False,
                error_cb=made._on_error,
            )
        except (nats.errors.Error, OSError):
            transport = made.nats._transport  # the library leaves it open when it is turned away
            if transport is not None:
                transport.close()  # type: ignore[no-untyped-call]  # untyped there
            raise
        return made

    async def _on_error(self, error: Exception) -> None:
        self.errors.append(str(error).lower())

    async def ask(self, verb: str, content: bytes, device: str | None = None) -> Answer:
        """Ask in the own name, or on another device's subject."""
        subject = subjects.ask(self.credentials.project, device or self.keys.device, verb)
        answer = await self.nats.request(subject, content, timeout=ASK_TIMEOUT_S)
        return Answer.model_validate_json(answer.data)

    async def is_heard(self, device: str, verb: str, content: bytes) -> bool:
        """Say whether a request on another device's subject gets any answer."""
        subject = subjects.ask(self.credentials.project, device, verb)
        try:
            await self.nats.request(subject, content, timeout=0.5)
        except (TimeoutError, nats.errors.Error):
            return False
        return True

    async def hello(self, keys: Keys | None = None) -> Answer:
        """Say hello, perhaps with somebody else's signing key; remember the pseudonym."""
        signer = keys or self.keys
        hello = Hello(
            name=self.credentials.name,
            key=signer.public,
            proof=signer.sign(signing.HELLO, self.keys.device),
            sdk="rogue",
        )
        answer = await self.ask("hello", hello.to_bytes())
        if answer.welcome is not None:
            self.client = answer.welcome.client
        return answer

    async def read_task(self, session: str, round_number: int) -> TrainTask:
        """Fetch the train task of a round that was opened; its mail may come a moment later."""
        self.session = session

        async def look() -> TrainTask | None:
            for signed in (await self.sync()).mail:
                mail = signed.content()
                for task in mail.tasks:
                    if isinstance(task, TrainTask) and task.round == round_number:
                        return task if mail.session == session else None
            return None

        self.task = await eventually(look, f"{self.credentials.name} has its task")
        assert self.task is not None
        return self.task

    async def sync(self, *pending: PendingUpdate) -> Any:
        """Ask for mail and receipts."""
        answer = await self.ask("sync", Sync(pending=pending).to_bytes())
        assert answer.synced is not None, answer
        return answer.synced

    async def receipt(self, digest: str) -> SessionReceipt | None:
        """Ask what became of an update of the task's attempt."""
        assert self.task is not None
        pending = PendingUpdate(
            session=self.session, round=self.task.round, attempt=self.task.attempt, update=digest
        )
        receipts: tuple[SessionReceipt, ...] = (await self.sync(pending)).receipts
        return receipts[0] if receipts else None

    def manifest(self, content: bytes, **changes: Any) -> dict[str, Any]:
        """Make what an honest manifest would say of this content, with changes."""
        assert self.task is not None
        honest = Manifest(
            project=self.credentials.project,
            session=self.session,
            round=self.task.round,
            attempt=self.task.attempt,
            client=self.client,
            base=self.task.model.digest,
            update=blob_of(content),
            weight=5,
        )
        return honest.model_dump(mode="json", exclude_none=True) | changes

    def signed(
        self, manifest: Mapping[str, Any] | str, inline: bytes | None, /, **changes: Any
    ) -> bytes:
        """Sign a manifest, whatever it says; changes are to the submission itself."""
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        submission = {
            "manifest": text,
            "key": self.keys.public,
            "signature": self.keys.sign(signing.MANIFEST, text),
        }
        if inline is not None:
            submission["inline"] = base64.b64encode(inline).decode()
        return json.dumps(submission | changes).encode()

    async def submit(self, content: bytes, inline: bytes | None = b"", **changes: Any) -> Answer:
        """Submit this content (inline, unless `inline` is None) under a manifest with changes."""
        rides = content if inline == b"" else inline
        return await self.ask("submit", self.signed(self.manifest(content, **changes), rides))

    async def grant(self, purpose: str, blob: BlobRef, **changes: Any) -> Answer:
        """Ask for a grant."""
        assert self.task is not None
        request = GrantRequest.model_validate(
            {
                "purpose": purpose,
                "session": self.session,
                "round": self.task.round,
                "attempt": self.task.attempt,
                "blob": blob,
            }
            | changes
        )
        return await self.ask("grant", request.to_bytes())

    async def upload(self, grant: Grant, content: bytes, url: str | None = None) -> int:
        """Send these bytes through a grant, and give the store's HTTP status."""
        async with httpx.AsyncClient() as http:
            headers = {
                name: value
                for name, value in grant.headers.items()
                if name.lower() not in ("host", "content-length")
            }
            answer = await http.put(url or grant.url, content=content, headers=headers)
            return answer.status_code

    async def store(self, content: bytes) -> BlobRef:
        """Upload as an honest client does."""
        answer = await self.grant("upload", blob_of(content))
        assert answer.grant is not None, answer
        assert await self.upload(answer.grant, content) in (200, 201)
        return blob_of(content)


def stored(answer: Answer) -> Stored:
    """Give the receipt that an update is kept."""
    assert answer.stored is not None, answer
    return answer.stored
