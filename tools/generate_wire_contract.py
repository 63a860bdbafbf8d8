"""Fills the examples into `docs/wire-contract.md`: `python -m tools.generate_wire_contract`.

The prose is written by hand; what stands between `<!-- made: NAME -->` and `<!-- end -->` is made here from the
code that sends it, so that no example and no limit can say what the code does not.
"""

import base64
import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from fedbus_local.identity import EDGE_PAYLOAD_MAX, EDGE_SUBSCRIPTIONS_MAX
from fedbus_schemas import pieces, signing, subjects
from fedbus_schemas.asks import PENDING_MAX, Answer
from fedbus_schemas.models import INLINE_BYTES_MAX, TENSORS_MAX
from fedbus_schemas.records import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, PAYLOAD_BYTES_MAX
from fedbus_schemas.wire import Message

from tools import wire_examples
from tools.generate_schemas import CHANNELS, file_name

PAGE = Path(__file__).parent.parent / "docs" / "wire-contract.md"
GENERATED = "../schemas/fedbus_schemas/generated"
MARK = re.compile(r"(<!-- made: ([a-z ]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
DUMP_BYTES = 16


class NoSuchExample(Exception):
    """The page asks for something that is not made here."""


def main() -> None:
    """Fill the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def filled(page: str) -> str:
    """Give the page with everything between its marks made anew. Raises `NoSuchExample`."""
    made = wire_examples.examples()

    def fill(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        if name in TABLES:
            return begin + TABLES[name]() + end
        if name not in made:
            raise NoSuchExample(name)
        return begin + fenced("json", shown(made[name])) + end

    return MARK.sub(fill, page)


def names(page: str) -> list[str]:
    """Give the names of all marks of the page."""
    return [found[2] for found in MARK.finditer(page)]


def fenced(kind: str, text: str) -> str:
    """Write a block of code."""
    return f"```{kind}\n{text.rstrip()}\n```\n"


def shown(message: Message) -> str:
    """Write a message as JSON, with line breaks that it does not have on the wire."""
    plain = json.loads(message.to_bytes())
    return json.dumps(plain, indent=2, ensure_ascii=False)


def requests() -> str:
    """Make the table of requests: from the channels that clients send to."""
    rows = ["| verb | what is sent | what it says |", "| --- | --- | --- |"]
    for name, channel in CHANNELS.items():
        if channel.by == "client" and channel.answer is Answer:
            kind = channel.messages[0]
            link = f"[{kind.__name__}]({GENERATED}/{file_name(kind)})"
            rows.append(f"| `{name}` | {link} | {channel.text} |")
    return "\n".join(rows) + "\n"


def client_subjects() -> str:
    """Make the table of the subjects that a client may use."""
    device = "{device}"
    rows = [
        ("publish", subjects.ask("{project}", device, "{verb}"), "requests, in its own name only"),
        (
            "subscribe",
            subjects.task("{project}", device),
            "live mail; the last token is the session",
        ),
        ("subscribe", f"_INBOX.{device}.>", "answers"),
    ]
    lines = ["| may | subject | for |", "| --- | --- | --- |"]
    lines += [f"| {may} | `{subject}` | {text} |" for may, subject, text in rows]
    return "\n".join(lines) + "\n"


def limits() -> str:
    """Make the table of limits."""
    rows = (
        ("bytes of one message on the bus", EDGE_PAYLOAD_MAX),
        ("subscriptions of one connection", EDGE_SUBSCRIPTIONS_MAX),
        ("bytes of a model or update inside a message, before base64", INLINE_BYTES_MAX),
        ("updates that a `sync` may ask about", PENDING_MAX),
        ("tensors of a file", TENSORS_MAX),
        ("pieces of an update", pieces.PIECES_MAX),
        ("bytes of a piece, but the last", f"{pieces.PIECE_BYTES_MIN:,} at least"),
        ("bytes of a piece", f"{pieces.PIECE_BYTES_MAX:,} at most"),
        ("pieces in one request", pieces.PIECES_ASKED_MAX),
        ("records of a batch", BATCH_RECORDS_MAX),
        ("bytes of a batch of records", BATCH_BYTES_MAX),
        ("bytes of one telemetry or result payload", PAYLOAD_BYTES_MAX),
    )
    lines = ["| limit | |", "| --- | --- |"]
    lines += [
        f"| {text} | {n:,} |" if isinstance(n, int) else f"| {text} | {n} |" for text, n in rows
    ]
    return "\n".join(lines) + "\n"


def keys() -> str:
    """Make the table of keys and signatures to test against."""
    mine, task = wire_examples.keys(), wire_examples.train_task()
    nonce = wire_examples.NONCE
    signature = base64.urlsafe_b64encode(base64.b64decode(mine.sign_nonce(nonce))).decode()
    rows = (
        ("32 raw bytes of the device seed", wire_examples.DEVICE_SEED.hex()),
        ("device seed", wire_examples.credentials().device_seed),
        ("device (public)", mine.device),
        ("challenge (`nonce`)", nonce),
        ("its signature (`sig`)", signature.rstrip("=")),
        ("payload seed", wire_examples.credentials().payload_seed),
        ("payload key (public)", mine.public),
        ("signed by it for `hello`", f"`fl/hello/v1`, a zero byte, `{mine.device}`"),
        ("that signature (`proof`)", mine.sign(signing.HELLO, mine.device)),
        ("digest of the example model", task.model.digest),
    )
    lines = ["| | |", "| --- | --- |"]
    lines += [f"| {text} | {value if '`' in value else f'`{value}`'} |" for text, value in rows]
    return "\n".join(lines) + "\n"


def model_file() -> str:
    """Dump the example model, byte by byte."""
    file = wire_examples.model_file()
    lines = []
    for place in range(0, len(file), DUMP_BYTES):
        row = file[place : place + DUMP_BYTES]
        text = "".join(chr(one) if 32 <= one < 127 else "." for one in row)
        lines.append(f"{place:04x}  {row.hex(' '):<47}  {text}")
    lines.append(f"{len(file)} bytes, SHA-256 {sha256(file).hexdigest()}")
    return fenced("text", "\n".join(lines))


TABLES: dict[str, Callable[[], str]] = {
    "requests": requests,
    "subjects": client_subjects,
    "limits": limits,
    "keys": keys,
    "model file": model_file,
}

if __name__ == "__main__":
    main()
