"""Clients that lie, on the running stack: each lie has its code, is seen, and costs the round nothing.

One session of two rounds: two honest SDK clients, and a rogue for every lie. The honest ones are held back
until every rogue has done its worst.
"""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from fedbus._keys import Keys
from fedbus_core.aggregation.tensorfile import Array, write
from fedbus_local.stack import LocalStack
from fedbus_schemas import signing
from fedbus_schemas.asks import Answer
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import RefusalCode as Code
from fedbus_schemas.tasks import Fate
from fedbus_schemas.updates import ValidationReport

from tests.rogue import Rogue, blob_of, stored
from tests.stacks import Federation, eventually, federation
from tests.trainers import TINY

HONEST = 2
INLINE_MAX = 4096
Json: TypeAlias = Any
Lie: TypeAlias = Callable[[Rogue, "Scene"], Awaitable[Answer]]


@dataclass(slots=True)
class Scene:
    """What a rogue knows besides its own task."""

    session: str
    other: Rogue
    """Another client, who says nothing in this session."""
    stranger: Credentials
    """Keys of somebody else."""


def tiny(**changes: Array | None) -> bytes:
    """Make an update to TINY with changes; None takes a tensor away."""
    tensors: dict[str, Array | None] = {
        **{name: np.full_like(array, 0.25) for name, array in TINY.items()},
        **changes,
    }
    return write({name: array for name, array in tensors.items() if array is not None})


def spoilt(value: float) -> Array:
    """Give a tensor of TINY with one bad element."""
    tensor = np.zeros(16, np.float32)
    tensor[7] = value
    return tensor


def bomb(header: bytes, length: int | None = None) -> bytes:
    """Make a tensor file with this header, which claims a length of its own."""
    return struct.pack("<Q", len(header) if length is None else length) + header


HONEST_BYTES = tiny()

# What is wrong with the content: stored, found at the finish, told in the round and in the receipt.
CONTENTS: Mapping[str, tuple[bytes, Code]] = {
    "NaN": (tiny(w=spoilt(np.nan)), Code.NOT_FINITE),
    "+inf": (tiny(w=spoilt(np.inf)), Code.NOT_FINITE),
    "-inf": (tiny(w=spoilt(-np.inf)), Code.NOT_FINITE),
    "out of range": (tiny(w=spoilt(1e30)), Code.OUT_OF_RANGE),
    "wrong shape": (tiny(w=np.zeros((4, 4), np.float32)), Code.SHAPE_MISMATCH),
    "wrong dtype": (tiny(w=np.zeros(16, np.float64)), Code.DTYPE_MISMATCH),
    "missing tensor": (tiny(b=None), Code.TENSOR_MISSING),
    "extra tensor": (tiny(more=np.zeros(1, np.float32)), Code.TENSOR_UNKNOWN),
    "extra tensor with a name that fits nowhere": (
        tiny(**{"\x00" * 512: np.zeros(1, np.float32)}),
        Code.TENSOR_UNKNOWN,
    ),
    "header bomb: a claimed length": (bomb(b"{}", 2**63), Code.UNREADABLE),
    "header bomb: nesting": (bomb(b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}"), Code.UNREADABLE),
    "header bomb: a huge shape": (
        bomb(b'{"w":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,0]}}'),
        Code.UNREADABLE,
    ),
    "no tensor file": (b"PK\x03\x04 a zip of pickles", Code.UNREADABLE),
    "nothing": (b"", Code.UNREADABLE),
    "cut short": (HONEST_BYTES[:-1], Code.UNREADABLE),
}


async def _submit(rogue: Rogue, inline: bytes | None = b"", **changes: Json) -> Answer:
    return await rogue.submit(HONEST_BYTES, inline, **changes)


def manifest(**changes: Json) -> Lie:
    """Lie in the manifest of an honest update."""
    return lambda rogue, _: rogue.submit(HONEST_BYTES, **changes)


def raw(content: bytes) -> Lie:
    """Send these bytes as a submission."""
    return lambda rogue, _: rogue.ask("submit", content)


def blob(**changes: Json) -> Lie:
    """Lie about the blob."""
    told = blob_of(HONEST_BYTES).model_dump() | changes
    return lambda rogue, _: rogue.submit(HONEST_BYTES, update=told)


def submission(**changes: Json) -> Lie:
    """Lie beside the manifest."""
    return lambda rogue, _: rogue.ask(
        "submit", rogue.signed(rogue.manifest(HONEST_BYTES), HONEST_BYTES, **changes)
    )


async def anothers_name(rogue: Rogue, scene: Scene) -> Answer:
    return await _submit(rogue, client=scene.other.client)


async def another_key(rogue: Rogue, scene: Scene) -> Answer:
    other = Keys(scene.stranger)
    text = json.dumps(rogue.manifest(HONEST_BYTES))
    signature = other.sign(signing.MANIFEST, text)
    return await rogue.ask(
        "submit", rogue.signed(text, HONEST_BYTES, key=other.public, signature=signature)
    )


async def hello_with_another_key(rogue: Rogue, scene: Scene) -> Answer:
    return await rogue.hello(Keys(scene.stranger))


async def hello_without_the_key(rogue: Rogue, scene: Scene) -> Answer:
    content = {
        "name": "x",
        "key": scene.other.keys.public,
        "proof": rogue.keys.sign(signing.HELLO, rogue.keys.device),
        "sdk": "rogue",
    }
    return await rogue.ask("hello", json.dumps(content).encode())


async def signed_for_another_purpose(rogue: Rogue, _: Scene) -> Answer:
    text = json.dumps(rogue.manifest(HONEST_BYTES))
    signature = rogue.keys.sign(signing.HELLO, text)
    return await rogue.ask("submit", rogue.signed(text, HONEST_BYTES, signature=signature))


async def changed_after_signing(rogue: Rogue, _: Scene) -> Answer:
    text = json.dumps(rogue.manifest(HONEST_BYTES))
    signature = rogue.keys.sign(signing.MANIFEST, text)
    other = text.replace('"weight": 5', '"weight": 6')
    assert other != text
    return await rogue.ask("submit", rogue.signed(other, HONEST_BYTES, signature=signature))


async def unsigned(rogue: Rogue, _: Scene) -> Answer:
    content = json.loads(rogue.signed(rogue.manifest(HONEST_BYTES), HONEST_BYTES))
    del content["signature"]
    return await rogue.ask("submit", json.dumps(content).encode())


async def inline_over_the_sessions_limit(rogue: Rogue, _: Scene) -> Answer:
    return await rogue.submit(tiny(w=np.zeros(INLINE_MAX, np.float32)))


async def inline_over_any_limit(rogue: Rogue, _: Scene) -> Answer:
    return await _submit(rogue, b"x" * 100_000)


async def another_blob_inline(rogue: Rogue, _: Scene) -> Answer:
    return await _submit(rogue, HONEST_BYTES[:-1] + b"\x01")


async def more_inline_than_told(rogue: Rogue, _: Scene) -> Answer:
    return await _submit(rogue, HONEST_BYTES + b"\x00")


async def grant_for_anothers_blob(rogue: Rogue, _: Scene) -> Answer:
    return await rogue.grant("download", BlobRef(digest="9" * 64, size=10))


async def grant_for_too_much(rogue: Rogue, _: Scene) -> Answer:
    return await rogue.grant("upload", BlobRef(digest="9" * 64, size=2**40))


async def grant_for_another_round(rogue: Rogue, _: Scene) -> Answer:
    return await rogue.grant("upload", blob_of(HONEST_BYTES), round=1)


async def grant_in_no_session(rogue: Rogue, _: Scene) -> Answer:
    return await rogue.grant("upload", blob_of(HONEST_BYTES), session="s-nowhere")


async def unreadable_grant(rogue: Rogue, _: Scene) -> Answer:
    return await rogue.ask("grant", b'{"purpose": "delete"}')


async def report_with_a_weight_beyond_numbers(rogue: Rogue, scene: Scene) -> Answer:
    assert rogue.task is not None
    content = {"session": scene.session, "round": 1, "model": rogue.task.model.digest}
    return await rogue.ask(
        "report", json.dumps(content | {"weight": 10**400, "metrics": {}}).encode()
    )


async def report_on_a_round_to_come(rogue: Rogue, scene: Scene) -> Answer:
    assert rogue.task is not None
    model = rogue.task.model.digest
    report = ValidationReport(session=scene.session, round=9, model=model, weight=1, metrics={})
    return await rogue.ask("report", report.to_bytes())


async def no_such_verb(rogue: Rogue, _: Scene) -> Answer:
    return await rogue.ask("delete", b"{}")


# What is refused at the door, in the answer.
LIES: Mapping[str, tuple[Lie, Code]] = {
    "unreadable JSON": (raw(b'{"manifest": "'), Code.UNREADABLE),
    "no JSON": (raw(b"\x00\xff\x00"), Code.UNREADABLE),
    "no manifest in it": (
        lambda one, _: one.ask("submit", one.signed("[]", None)),
        Code.UNREADABLE,
    ),
    "unsigned": (unsigned, Code.UNREADABLE),
    "a weight that is no number": (manifest(weight="many"), Code.UNREADABLE),
    "a negative weight": (manifest(weight=-1), Code.UNREADABLE),
    "NaN in the metrics": (manifest(metrics={"loss": float("nan")}), Code.UNREADABLE),
    "too many metrics": (manifest(metrics={str(n): 0.0 for n in range(65)}), Code.UNREADABLE),
    "a session that is a wildcard": (manifest(session="*"), Code.UNREADABLE),
    "inline that is not base64": (submission(inline="!!!!"), Code.UNREADABLE),
    "inline over what any message may hold": (inline_over_any_limit, Code.UNREADABLE),
    "another's name": (anothers_name, Code.NOT_YOURS),
    "another project": (manifest(project="other"), Code.NOT_YOURS),
    "another key than at hello": (another_key, Code.KEY_CHANGED),
    "hello with another key": (hello_with_another_key, Code.KEY_CHANGED),
    "hello without holding the key": (hello_without_the_key, Code.BAD_SIGNATURE),
    "badly signed": (submission(signature="A" * 86), Code.BAD_SIGNATURE),
    "signed for another purpose": (signed_for_another_purpose, Code.BAD_SIGNATURE),
    "changed after signing": (changed_after_signing, Code.BAD_SIGNATURE),
    "unknown session": (manifest(session="s-nowhere"), Code.SESSION_UNKNOWN),
    "old round": (manifest(round=1), Code.ROUND_CLOSED),
    "future round": (manifest(round=3), Code.ROUND_UNKNOWN),
    "future attempt": (manifest(attempt=2), Code.ROUND_UNKNOWN),
    "wrong base": (manifest(base="8" * 64), Code.BASE_MISMATCH),
    "zero weight": (manifest(weight=0), Code.WEIGHT_OUT_OF_RANGE),
    "huge weight": (manifest(weight=2**20 + 1), Code.WEIGHT_OUT_OF_RANGE),
    "absurd weight": (manifest(weight=10**300), Code.WEIGHT_OUT_OF_RANGE),
    "wrong hash inline": (another_blob_inline, Code.HASH_MISMATCH),
    "wrong hash told": (blob(digest="7" * 64), Code.HASH_MISMATCH),
    "wrong size inline": (more_inline_than_told, Code.SIZE_MISMATCH),
    "wrong size told": (blob(size=1), Code.SIZE_MISMATCH),
    "a size beyond the model's": (blob(size=2**40), Code.TOO_LARGE),
    "inline over the session's limit": (inline_over_the_sessions_limit, Code.TOO_LARGE),
    "grant for somebody else's blob": (grant_for_anothers_blob, Code.BLOB_NOT_GRANTED),
    "grant for an oversize upload": (grant_for_too_much, Code.TOO_LARGE),
    "grant for an old round": (grant_for_another_round, Code.ROUND_CLOSED),
    "grant in an unknown session": (grant_in_no_session, Code.SESSION_UNKNOWN),
    "unreadable grant": (unreadable_grant, Code.UNREADABLE),
    "report with a weight beyond numbers": (report_with_a_weight_beyond_numbers, Code.UNREADABLE),
    "report on a round to come": (report_on_a_round_to_come, Code.ROUND_UNKNOWN),
    "no such verb": (no_such_verb, Code.VERB_UNKNOWN),
}
BLOBS = ("blob missing", "blob longer than told", "blob shorter than told")
GOOD = ("twice", "boundless")
"""Rogues whose updates are good, though they do odd things with them."""
EXTRAS = (*GOOD, "thief", "silent", "loud")


@asynccontextmanager
async def rogues(stack: LocalStack, project: str, names: list[str]) -> AsyncIterator[list[Rogue]]:
    """Let so many rogues join."""
    ids = [f"rogue-{number}" for number in range(len(names))]
    made = await asyncio.to_thread(stack.make_credentials, ids, project)
    connected = await asyncio.gather(*(Rogue.connect(one) for one in made))
    try:
        for one in await asyncio.gather(*(rogue.hello() for rogue in connected)):
            assert one.welcome is not None
        yield list(connected)
    finally:
        await asyncio.gather(*(rogue.nats.close() for rogue in connected))


async def await_online(fed: Federation, count: int) -> None:
    async def look() -> bool:
        page = await fed.ask("GET", "/v1/clients", params={"limit": 200, "project": fed.project})
        return sum(one["online"] is True for one in page["items"]) >= count

    await eventually(look, f"{count} clients online")


async def test_every_lie_has_its_code_and_the_round_goes_on(stack: LocalStack) -> None:
    names = [*CONTENTS, *LIES, *BLOBS, *EXTRAS]
    async with (
        federation(stack, clients=HONEST) as fed,
        rogues(stack, fed.project, names) as made,
    ):
        liars = dict(zip(names, made, strict=True))
        await await_online(fed, HONEST + len(names))
        fed.gate.close(fed.names, 2)
        good = HONEST + len(GOOD)
        session = await fed.start(
            TINY, rounds=2, minimum=good, target=good, inline_bytes_max=INLINE_MAX
        )
        for name in GOOD:
            await liars[name].read_task(session, 1)
            stored(await liars[name].submit(HONEST_BYTES))
        story = fed.stories[session]
        await story.until(lambda: story.of_round("round.opened.v1", 2), "round 2 opens")
        await asyncio.gather(*(rogue.read_task(session, 2) for rogue in made))
        [stranger, newcomer] = await asyncio.to_thread(
            stack.make_credentials, ["stranger", "newcomer"], fed.project
        )
        scene = Scene(session, liars["silent"], stranger)

        await _told_at_the_door(liars, scene)
        await _strangers(newcomer, scene)
        await _nobody_elses_subject(liars["loud"], liars["silent"])
        await _only_the_granted_bytes(liars["thief"], liars["silent"])
        kept = await _stored_for_now(liars)
        first = await _twice(liars["twice"])
        stored(await liars["boundless"].submit(HONEST_BYTES, metrics=boundless()))

        fed.gate.open()
        await fed.ended(session)
        view = (await fed.rounds(session))[-1]
        refused = {one["client"]: one["code"] for one in view["refused"]}
        assert refused == {liars[name].client: code for name, (_, code) in kept.items()}
        assert {liars[name].client for name in GOOD} < set(view["clients"])
        assert view["counted"] == good
        assert view["closed_by"] == "target"
        assert (view["number"], view["attempt"]) == (2, 1)

        for name, (digest, code) in kept.items():
            receipt = await liars[name].receipt(digest)
            assert receipt is not None, name
            assert receipt.fate is Fate.REFUSED, name
            assert receipt.refusal is not None
            assert receipt.refusal.code is code, name
        again = await liars["twice"].submit(HONEST_BYTES)
        assert stored(again).sequence == first, "the first receipt also after the end"
        await _seen_at_the_api(fed, liars)
        await _a_boundless_report_breaks_no_view(fed, liars["boundless"], view["model"])
        await fed.assert_sound(session)


def boundless() -> dict[str, float]:
    """As many metrics as there may be, each as large as a number may be."""
    return {f"{number:0127}": 1.7e308 for number in range(64)} | {f"{0:0127}": -1.7e308}


async def _told_at_the_door(liars: Mapping[str, Rogue], scene: Scene) -> None:
    answers = await asyncio.gather(*(lie(liars[name], scene) for name, (lie, _) in LIES.items()))
    told = {
        name: answer.refusal.code if answer.refusal else answer
        for name, answer in zip(LIES, answers, strict=True)
    }
    assert told == {name: code for name, (_, code) in LIES.items()}
    for answer in answers:
        assert answer.refusal is not None
        assert len(answer.to_bytes()) < 2_000, "an answer is short, whatever was sent"


async def _strangers(newcomer: Credentials, scene: Scene) -> None:
    """Who said no hello is unknown; who came after the opening is not in the cohort."""
    rogue = await Rogue.connect(newcomer)
    rogue.session, rogue.task = scene.session, scene.other.task
    rogue.client = "c" + "a" * 16
    try:
        answer = await rogue.submit(HONEST_BYTES)
        assert answer.refusal is not None
        assert answer.refusal.code is Code.CLIENT_UNKNOWN
        await rogue.hello()
        for answer in (
            await rogue.submit(HONEST_BYTES),
            await rogue.grant("upload", blob_of(HONEST_BYTES)),
        ):
            assert answer.refusal is not None
            assert answer.refusal.code is Code.NOT_IN_COHORT
    finally:
        await rogue.nats.close()


async def _nobody_elses_subject(rogue: Rogue, other: Rogue) -> None:
    """The bus itself delivers nothing that is sent in another's name."""
    content = other.signed(other.manifest(HONEST_BYTES), HONEST_BYTES)
    assert not await rogue.is_heard(other.keys.device, "submit", content)
    assert any("permissions violation for publish" in error for error in rogue.errors)
    assert await other.receipt(blob_of(HONEST_BYTES).digest) is None
    wire = f"fl.{rogue.credentials.project}.in.{rogue.session}.command"
    await rogue.nats.publish(wire, b'{"kind": "stop"}')

    async def look() -> bool:
        return any(".command" in error for error in rogue.errors)

    await eventually(look, "a violation for the command")


async def _only_the_granted_bytes(rogue: Rogue, other: Rogue) -> None:
    """Through a grant go the granted bytes under the granted name, once."""
    content = tiny(w=np.full(16, 0.5, np.float32))
    answer = await rogue.grant("upload", blob_of(content))
    assert answer.grant is not None
    changed = content[:-1] + b"\x01"
    assert await rogue.upload(answer.grant, changed) >= 400
    assert await rogue.upload(answer.grant, content + b"\x00") >= 400
    elsewhere = answer.grant.url.replace(rogue.client, other.client)
    assert elsewhere != answer.grant.url
    assert await rogue.upload(answer.grant, content, elsewhere) == 403
    assert await rogue.upload(answer.grant, content) == 200
    assert await rogue.upload(answer.grant, content) == 412
    again = await rogue.grant("upload", blob_of(content))
    assert again.grant is not None
    assert again.grant.exists


async def _stored_for_now(liars: Mapping[str, Rogue]) -> dict[str, tuple[str, Code]]:
    """Send what only the finish can judge; give each one's digest and the code to come."""
    kept: dict[str, tuple[str, Code]] = {}
    for name, (content, code) in CONTENTS.items():
        rogue = liars[name]
        inline = content
        if len(content) > INLINE_MAX:
            await rogue.store(content)
            stored(await rogue.submit(content, None))
        else:
            stored(await rogue.submit(content, inline))
        kept[name] = blob_of(content).digest, code
    missing = tiny(b=np.full(4, 0.125, np.float32))
    stored(await liars["blob missing"].submit(missing, None))
    kept["blob missing"] = blob_of(missing).digest, Code.BLOB_MISSING
    for name, size in (("blob longer than told", -8), ("blob shorter than told", 8)):
        told = (await liars[name].store(HONEST_BYTES)).model_dump()
        told["size"] += size
        stored(await liars[name].submit(HONEST_BYTES, None, update=told))
        kept[name] = told["digest"], Code.SIZE_MISMATCH
    return kept


async def _twice(rogue: Rogue) -> int:
    """A resend has the first receipt, other content under the same attempt a code of its own."""
    first = stored(await rogue.submit(HONEST_BYTES))
    again = await asyncio.gather(*(rogue.submit(HONEST_BYTES) for _ in range(3)))
    assert [stored(one) for one in again] == [first] * 3
    for other in (
        await rogue.submit(tiny(w=np.ones(16, np.float32))),
        await rogue.submit(HONEST_BYTES, weight=6),
    ):
        assert other.refusal is not None
        assert other.refusal.code is Code.EQUIVOCATION
    return first.sequence


async def _seen_at_the_api(fed: Federation, liars: Mapping[str, Rogue]) -> None:
    """Every refusal at the door is told by the api, with who, what and why."""
    wanted = {(liars[name].client, code.value) for name, (_, code) in LIES.items()}
    wanted.add((liars["twice"].client, Code.EQUIVOCATION.value))

    async def look() -> bool:
        page = await fed.ask("GET", "/v1/refusals", params={"limit": 200, "project": fed.project})
        assert all(one["meaning"] for one in page["items"])
        return wanted <= {(one["client"], one["code"]) for one in page["items"]}

    await eventually(look, "the refusals", within_s=10)


async def _a_boundless_report_breaks_no_view(fed: Federation, rogue: Rogue, model: str) -> None:
    report = ValidationReport(
        session=rogue.session, round=2, model=model, weight=2**63 - 1, metrics=boundless()
    )
    answer = await rogue.ask("report", report.to_bytes())
    assert answer.noted is not None
    view = await fed.show(rogue.session)
    assert view["validation"]["reports"] >= 1
    assert view["validation"]["weight"] >= 2**63 - 1


def test_a_header_bomb_is_small() -> None:
    """Or the door would refuse it by its length, and the test would show nothing."""
    for name, (content, _) in CONTENTS.items():
        assert len(base64.b64encode(content)) < 90_000, name
