"""The requests a client makes over the bus, and their answers.

Each is a NATS request on `fl.<project>.ask.<device>.<verb>`; the server attests who sent it. Every answer
is an `Answer`: either the verb's own result or a refusal.
"""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints

from fedbus_schemas.commands import CommandKept
from fedbus_schemas.devices import Minted
from fedbus_schemas.ids import (
    AttemptNumber,
    ClientId,
    CommandId,
    PublicKey,
    RoundNumber,
    RuleName,
    SessionId,
    Sha256,
    Signature,
)
from fedbus_schemas.models import BlobRef
from fedbus_schemas.pieces import PIECES_ASKED_MAX, Piece
from fedbus_schemas.records import Backlog
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.tasks import Receipt, SignedMail
from fedbus_schemas.updates import Submission
from fedbus_schemas.wire import Message

VERBS = (
    "hello",
    "beat",
    "sync",
    "grant",
    "pieces",
    "submit",
    "report",
    "done",
    "records",
    "decline",
    "start_task",
    "progress",
    "answer",
    "command_grant",
)
PENDING_MAX = 64
COMMANDS_MAX = 64
"""Commands that a client may work on at once."""


class Hello(Message):
    """Who I am: my name for people, and the key that signs my manifests.

    `proof` is the payload key's signature over the device key (`signing.HELLO`): it shows that the
    sender holds both.
    """

    name: Annotated[str, StringConstraints(max_length=128)]
    key: PublicKey
    proof: Signature
    sdk: Annotated[str, StringConstraints(max_length=64)]


class Welcome(Message):
    """The client's pseudonym, which its manifests carry, and how often to send a heartbeat."""

    client: ClientId
    beat_s: Annotated[float, Field(gt=0)]


class Beat(Message):
    """I am here. Sent every `beat_s` seconds; every half minute with what waits to be sent.

    `leaving`: the last one; I stop now, do not count on me.
    """

    backlog: Backlog | None = None
    leaving: bool = False


class PendingUpdate(Message):
    """An update the client still keeps because it has heard no receipt for it."""

    session: SessionId
    round: RoundNumber
    attempt: AttemptNumber
    update: Sha256


class Sync(Message):
    """What is open for me, and what became of these? `commands` are those that I work on."""

    pending: Annotated[tuple[PendingUpdate, ...], Field(max_length=PENDING_MAX)] = ()
    commands: Annotated[tuple[CommandId, ...], Field(max_length=COMMANDS_MAX)] = ()


class SessionReceipt(Receipt):
    """A receipt with the session it belongs to."""

    session: SessionId


class Synced(Message):
    """The client's mail of every session, and receipts for what it asked about.

    A pending update without a receipt is still open: the client sends it again. `ended` are those of its
    commands that are over.
    """

    mail: tuple[SignedMail, ...] = ()
    receipts: tuple[SessionReceipt, ...] = ()
    ended: tuple[CommandId, ...] = ()


class GrantRequest(Message):
    """May I fetch this model (download) or the session's compute package, or upload this update?"""

    purpose: Literal["download", "upload", "package"]
    session: SessionId
    round: RoundNumber
    attempt: AttemptNumber = 1
    blob: BlobRef


class Grant(Message):
    """A presigned request to the object store, valid until `expires`. Send exactly these headers.

    `exists` says that the blob is there already: nothing is to be uploaded.
    """

    method: Literal["GET", "PUT"]
    url: str
    headers: dict[str, str] = {}
    expires: AwareDatetime
    exists: bool = False


class PiecesRequest(Message):
    """May I upload these pieces of an update? With none: how much of it is there?"""

    session: SessionId
    round: RoundNumber
    attempt: AttemptNumber
    blob: BlobRef
    pieces: Annotated[tuple[Piece, ...], Field(max_length=PIECES_ASKED_MAX)] = ()


class PiecesGrant(Message):
    """One grant a piece, in the order they were asked for.

    `stored`, if no piece was asked for: how many bytes are there without a gap, from the beginning on.
    As many as the update has: nothing is to be uploaded.
    """

    grants: tuple[Grant, ...] = ()
    stored: Annotated[int, Field(ge=0)] | None = None


class TransferDone(Message):
    """The transfer is over, or will not be: somebody else may go ahead.

    `given_up`: an upload that ended before its time because nobody wants the update any more. What is there
    of it is deleted.
    """

    blob: Sha256
    given_up: bool = False


class Decline(Message):
    """The owner's policy does not allow a task, by the rule of this name.

    For a train task `submission` holds a signed manifest with `declined` set, which is stored in the
    update's place: the round stops waiting, and the log keeps who declined and why.
    """

    kind: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,31}$")]
    session: SessionId | None = None
    round: RoundNumber | None = None
    rule: RuleName
    detail: Annotated[str, StringConstraints(max_length=512)] = ""
    submission: Submission | None = None


class Stored(Message):
    """The update is kept and counts at most once. Whether it is counted, the receipt says later."""

    session: SessionId
    round: RoundNumber
    attempt: AttemptNumber
    sequence: Annotated[int, Field(ge=1)]
    update: Sha256


class Noted(Message):
    """Taken in; there is nothing more to say."""


class Answer(Message):
    """The answer to any ask: exactly one field is set."""

    @classmethod
    def refused(cls, code: RefusalCode, detail: str) -> Self:
        """Refuse, and say what exactly was wrong."""
        return cls(refusal=Refusal(code=code, detail=detail))

    welcome: Welcome | None = None
    synced: Synced | None = None
    grant: Grant | None = None
    pieces: PiecesGrant | None = None
    stored: Stored | None = None
    kept: CommandKept | None = None
    noted: Noted | None = None
    minted: Minted | None = None
    refusal: Refusal | None = None


RENEW = "renew"
"""The verb by which a device asks for its next token. Controllers answer it, combiners let it pass."""
