"""Example messages of one round, made by the code that sends them, with fixed keys: always the same bytes.

`examples()` gives them by name. Their hashes and signatures are right, so a client can be tested against them.
"""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import numpy as np
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from fedbus import _declining, _tensorfile, _updates
from fedbus._keys import Keys
from fedbus._participant import TrainJob
from fedbus._tensorfile import Array
from fedbus._updates import Result, Trained
from fedbus.consent.policy import Denied
from fedbus_combiner.grants import LIFETIME_S
from fedbus_runtime.ports import SignedUrl
from fedbus_runtime.s3_grants import S3Grants
from fedbus_runtime.s3_signing import S3Place
from fedbus_schemas import keys as blob_keys
from fedbus_schemas import nkeys, signing
from fedbus_schemas.asks import (
    Answer,
    Beat,
    Decline,
    Grant,
    GrantRequest,
    Hello,
    Noted,
    PendingUpdate,
    PiecesGrant,
    PiecesRequest,
    SessionReceipt,
    Stored,
    Sync,
    Synced,
    TransferDone,
    Welcome,
)
from fedbus_schemas.commands import AnswerOutcome, CommandAnswer, CommandKept
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.devices import Minted
from fedbus_schemas.models import INLINE_BYTES_MAX, BlobRef
from fedbus_schemas.pieces import PIECE_BYTES_MIN, Piece
from fedbus_schemas.records import (
    Backlog,
    EventRecord,
    Level,
    MetricsRecord,
    RecordBatch,
    TelemetryRecord,
)
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.tasks import (
    Fate,
    Mail,
    ModelToFetch,
    Receipt,
    SignedMail,
    TrainTask,
    ValidateTask,
)
from fedbus_schemas.updates import Submission, Timings, ValidationReport
from fedbus_schemas.wire import Message

PROJECT, SESSION, NAME, CLIENT = "demo", "mnist-7", "site-1", "cabcdefghij234567"
DEVICE_SEED, PAYLOAD_SEED, CONTROLLER_SEED = (bytes([one]) * 32 for one in (1, 2, 3))
NONCE = "q0OdqJBuBEA7Yes"
"""A challenge as a server sends it."""
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
MODEL = {"b": np.zeros(2, np.float32), "w": np.array([[1.0, -2.0]], np.float32)}
TRAINED = {"b": np.full(2, 0.25, np.float32), "w": np.array([[0.5, -1.5]], np.float32)}
GRANTS = S3Grants(S3Place("https://models.example.org", "fedbus", "example", "example"))
OUTBOX = "abcdefghijklmnop"
COMMAND = "cmd-1"


def credentials() -> Credentials:
    """Give the client's credentials."""
    return Credentials(
        project=PROJECT,
        name=NAME,
        servers=("tls://nats.example.org:4222",),
        device_seed=nkeys.user_seed(DEVICE_SEED),
        payload_seed=signing.encode(PAYLOAD_SEED),
        trust=(_public(CONTROLLER_SEED),),
    )


def keys() -> Keys:
    """Give the client's keys."""
    return Keys(credentials())


def model_file() -> bytes:
    """Give the model's tensor file."""
    return _tensorfile.write(MODEL)


def update() -> _updates.Update:
    """Give the update, as the SDK makes it."""
    dtypes = dict.fromkeys(TRAINED, "F32")
    arrays: Mapping[str, Array] = TRAINED
    return _updates.make(
        project=PROJECT,
        session=SESSION,
        client=CLIENT,
        task=train_task(),
        trained=Trained(Result(arrays, dtypes), 120, {"loss": 0.25}),
        timings=Timings(download_s=0.0, train_s=1.5),
        public_key=keys().public,
        sign=keys().sign,
    )


def train_task() -> TrainTask:
    """Give the train task of round 1."""
    file = model_file()
    model = ModelToFetch(**_blob(file).model_dump(), inline=base64.b64encode(file).decode())
    return TrainTask(
        round=1,
        attempt=1,
        model=model,
        settings={"lr": 0.1, "epochs": 2},
        seed=6_072_431_880_217_313,
        deadline=NOW + timedelta(minutes=10),
        weight_max=2**20,
        inline_bytes_max=INLINE_BYTES_MAX,
        trace_id=TRACE,
        session_name="MNIST, night run",
        cohort=3,
    )


def examples() -> dict[str, Message]:
    """Give every example message by its name."""
    return _greeting() | _first_mail() | _transfers() | _sending() | _last_mail() | _beside()


def _greeting() -> dict[str, Message]:
    mine = keys()
    proof = mine.sign(signing.HELLO, mine.device)
    return {
        "credentials": credentials(),
        "hello": Hello(name=NAME, key=mine.public, proof=proof, sdk="my-client/1.0"),
        "welcome": Answer(welcome=Welcome(client=CLIENT, beat_s=10)),
        "refused": Answer(
            refusal=Refusal(
                code=RefusalCode.RETRY_LATER, detail="the log is away", retry_after_s=0.5
            )
        ),
        "beat": Beat(backlog=Backlog(total=3, bytes=812, dropped=0, oldest_age_s=4.2)),
        "noted": Answer(noted=Noted()),
        "minted": Answer(
            minted=Minted(
                token="eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJleHAiOjB9.c2lnbmF0dXJl",  # noqa: S106
                lifetime_s=2419200,
                expires=NOW + timedelta(days=28),
                project="default",
            )
        ),
    }


def _first_mail() -> dict[str, Message]:
    mail = Mail(
        project=PROJECT,
        session=SESSION,
        number=1,
        device=keys().device,
        client=CLIENT,
        tasks=(train_task(),),
    )
    return {
        "sync": Sync(),
        "mail": mail,
        "signed mail": _signed(mail),
        "synced": Answer(synced=Synced(mail=(_signed(mail),))),
    }


def _transfers() -> dict[str, Message]:
    file, mine = model_file(), update().blob
    asked = GrantRequest(purpose="download", session=SESSION, round=1, attempt=1, blob=_blob(file))
    get = _grant(GRANTS.download(blob_keys.model(PROJECT, asked.blob.digest), NOW, LIFETIME_S))
    put = _grant(_upload(blob_keys.update(PROJECT, CLIENT, mine.digest), mine))
    whole = BlobRef(digest=sha256(b"a large update").hexdigest(), size=20_000_000)
    piece = Piece(digest=sha256(b"its first piece").hexdigest(), size=PIECE_BYTES_MIN, start=0)
    pieces = PiecesRequest(session=SESSION, round=1, attempt=1, blob=whole)
    prefix = blob_keys.pieces(PROJECT, CLIENT, whole.digest)
    key = blob_keys.piece(prefix, whole.size, piece.start, piece.size, piece.digest)
    granted = _grant(_upload(key, piece))
    return {
        "grant": asked,
        "granted": Answer(grant=get),
        "grant upload": asked.model_copy(update={"purpose": "upload", "blob": mine}),
        "granted upload": Answer(grant=put),
        "pieces": pieces.model_copy(update={"pieces": (piece,)}),
        "pieces granted": Answer(pieces=PiecesGrant(grants=(granted,))),
        "how much": pieces,
        "so much": Answer(pieces=PiecesGrant(stored=PIECE_BYTES_MIN)),
        "done": TransferDone(blob=_blob(file).digest),
    }


def _sending() -> dict[str, Message]:
    made = update()
    submission = Submission.model_validate_json(made.submission)
    return {
        "submission": submission,
        "manifest": submission.content(),
        "stored": Answer(
            stored=Stored(session=SESSION, round=1, attempt=1, sequence=41, update=made.blob.digest)
        ),
    }


def _last_mail() -> dict[str, Message]:
    made, new = update(), sha256(b"the model of round 1").hexdigest()
    model = ModelToFetch(digest=new, size=len(model_file()), inline=None)
    receipt = Receipt(round=1, attempt=1, fate=Fate.COUNTED, model=new)
    mail = Mail(
        project=PROJECT,
        session=SESSION,
        number=4,
        device=keys().device,
        client=CLIENT,
        receipts=(receipt,),
        tasks=(
            ValidateTask(
                round=1, model=model, settings={"lr": 0.1, "epochs": 2}, trace_id=TRACE, cohort=3
            ),
        ),
    )
    pending = PendingUpdate(session=SESSION, round=1, attempt=1, update=made.blob.digest)
    return {
        "last mail": mail,
        "report": ValidationReport(
            session=SESSION, round=1, model=new, weight=50, metrics={"accuracy": 0.91}
        ),
        "sync later": Sync(pending=(pending,)),
        "synced later": Answer(
            synced=Synced(receipts=(SessionReceipt(session=SESSION, **receipt.model_dump()),))
        ),
    }


def _beside() -> dict[str, Message]:
    records = (
        MetricsRecord(number=1, time=NOW, session=SESSION, round=1, metrics={"loss": 0.5}, step=0),
        TelemetryRecord(number=2, time=NOW, key="battery", payload={"volts": 3.7}),
        EventRecord(number=3, time=NOW, level=Level.WARNING, text="the camera is dark"),
    )
    denied = Denied("cohort.smallest", "3 clients were asked, the policy wants at least 5")
    job = TrainJob(SESSION, train_task())
    answer = CommandAnswer(command=COMMAND, outcome=AnswerOutcome.COMPLETED, value='{"score":0.9}')
    kept = sha256(answer.to_bytes()).hexdigest()
    decline: Decline = _declining.decline(job, CLIENT, denied, PROJECT, keys())
    return {
        "records": RecordBatch(stream=OUTBOX, batch=1, records=records),
        "decline": decline,
        "command answer": answer,
        "kept": Answer(kept=CommandKept(command=COMMAND, answer=kept)),
    }


def _upload(key: str, blob: BlobRef) -> SignedUrl:
    return GRANTS.upload(key, blob.digest, blob.size, NOW, LIFETIME_S)


def _grant(signed: SignedUrl) -> Grant:
    return Grant.model_validate(
        {
            "method": signed.method,
            "url": signed.url,
            "headers": dict(signed.headers),
            "expires": signed.expires,
        }
    )


def _blob(file: bytes) -> BlobRef:
    return BlobRef(digest=sha256(file).hexdigest(), size=len(file))


def _signed(mail: Mail) -> SignedMail:
    text = mail.to_bytes().decode()
    key = eddsa.import_private_key(CONTROLLER_SEED)
    signature = eddsa.new(key, "rfc8032").sign(signing.message(signing.MAIL, text))
    return SignedMail(mail=text, key=_public(CONTROLLER_SEED), signature=signing.encode(signature))


def _public(seed: bytes) -> str:
    key: ECC.EccKey = eddsa.import_private_key(seed)
    return signing.encode(key.public_key().export_key(format="raw"))
