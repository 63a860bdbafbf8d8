"""Writes JSON Schema for every message on the bus, and an AsyncAPI document of the subjects.

`python tools/generate_schemas.py`. A test fails when the files differ from the code.
"""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import fedbus_schemas
from fedbus_schemas import envelope, subjects, updates
from fedbus_schemas.asks import (
    Answer,
    Beat,
    Decline,
    GrantRequest,
    Hello,
    PiecesRequest,
    Sync,
    TransferDone,
)
from fedbus_schemas.command_events import COMMAND_EVENT_TYPES, CommandEntry
from fedbus_schemas.commands import (
    CommandAnswer,
    CommandGrantRequest,
    CommandProgress,
    CommandTimeout,
    RunCommand,
    StartTask,
    StepCommand,
    StopCommand,
    TakeUpCommand,
)
from fedbus_schemas.devices import DeviceRecord, JoinRecord, Mint, Renew
from fedbus_schemas.envelope import Entry, SignedHead
from fedbus_schemas.events import EVENT_TYPES, Event
from fedbus_schemas.identities import ActRecord, TokenRecord
from fedbus_schemas.inputs import ClientsChanged, DeadlineFired, TargetReached
from fedbus_schemas.records import Backlog, ClientAttributes, RecordBatch, StoredRecords
from fedbus_schemas.refusals import RefusalNote
from fedbus_schemas.registry import ClientRecord, FederationRecord, ModelRecord, PackageRecord
from fedbus_schemas.sessions import (
    ExtendSession,
    PauseSession,
    ResumeSession,
    StartSession,
    StopSession,
)
from fedbus_schemas.streams import STREAMS
from fedbus_schemas.tasks import SignedMail
from fedbus_schemas.wire import Message
from fedbus_schemas.work import FinishItem, FinishResult, FoldItem, RecountItem

Json: TypeAlias = dict[str, object]

TARGET = Path(__file__).parents[1] / "schemas/fedbus_schemas/generated"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
LEFT_OUT = "views"
"""How the names of modules end whose messages stand in openapi.json."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A subject, who sends to it, who hears it, and what is sent. With an `answer` it is a request."""

    address: str
    by: str
    to: str
    messages: tuple[type[Message], ...]
    text: str
    answer: type[Message] | None = None


P, S, D, C, R, A = "{project}", "{session}", "{device}", "{client}", "{round}", "{attempt}"
K = "{command}"
COMMANDS = (StartSession, PauseSession, ResumeSession, StopSession, ExtendSession)

CHANNELS = {
    "log": Channel(
        subjects.event(P, S),
        "controller",
        "controller",
        (Entry,),
        "A session's log. Appended with compare-and-set by controllers only.",
    ),
    "live-log": Channel(
        subjects.live_event(P, S), "bus", "api", (Entry,), "What the log republishes."
    ),
    "command": Channel(
        subjects.command(P, S), "api", "controller", COMMANDS, "An operator's command."
    ),
    "result": Channel(
        subjects.result(P, S), "combiner", "controller", (FinishResult,), "What a finish found."
    ),
    "deadline": Channel(
        subjects.deadline(P, S), "bus", "controller", (DeadlineFired,), "A deadline that fired."
    ),
    "schedule": Channel(
        subjects.schedule(P, S),
        "controller",
        "bus",
        (DeadlineFired,),
        "A session's one pending deadline. No consumer's filter covers it.",
    ),
    "notice": Channel(
        subjects.notice(P, S),
        "combiner",
        "controller",
        (TargetReached, ClientsChanged),
        "A request to look at a session now; the session `any` stands for all that wait.",
        answer=Message,
    ),
    "work": Channel(
        subjects.work(P, S, "{kind}"),
        "controller",
        "combiner",
        (FoldItem, FinishItem, RecountItem),
        "Work for the combiners.",
    ),
    "head": Channel(
        subjects.head(P, S, "{number}"),
        "controller",
        "auditor",
        (SignedHead,),
        "A signed head of a session's log.",
    ),
    "mailbox": Channel(
        subjects.mail(P, D, S),
        "controller",
        "bus",
        (SignedMail,),
        "A client's mailbox for one session.",
    ),
    "task": Channel(
        subjects.task(P, D, S), "bus", "client", (SignedMail,), "A client's mail, live."
    ),
    "update": Channel(
        subjects.update(P, S, R, C, A),
        "combiner",
        "combiner",
        (updates.StoredUpdate,),
        "One client's one update for one attempt; the bus refuses a second one.",
    ),
    "hello": Channel(
        subjects.ask(P, D, "hello"), "client", "combiner", (Hello,), "Who I am.", Answer
    ),
    "beat": Channel(
        subjects.ask(P, D, "beat"), "client", "combiner", (Beat,), "I am here.", Answer
    ),
    "sync": Channel(
        subjects.ask(P, D, "sync"),
        "client",
        "combiner",
        (Sync,),
        "What is open for me, and what became of my updates?",
        Answer,
    ),
    "grant": Channel(
        subjects.ask(P, D, "grant"),
        "client",
        "combiner",
        (GrantRequest,),
        "May I fetch or upload this blob?",
        Answer,
    ),
    "pieces": Channel(
        subjects.ask(P, D, "pieces"),
        "client",
        "combiner",
        (PiecesRequest,),
        "May I upload these pieces of an update?",
        Answer,
    ),
    "submit": Channel(
        subjects.ask(P, D, "submit"),
        "client",
        "combiner",
        (updates.Submission,),
        "Here is my update.",
        Answer,
    ),
    "report": Channel(
        subjects.ask(P, D, "report"),
        "client",
        "combiner",
        (updates.ValidationReport,),
        "What I measured of a model.",
        Answer,
    ),
    "records": Channel(
        subjects.ask(P, D, "records"),
        "client",
        "combiner",
        (RecordBatch,),
        "Here is what I logged; the same batch again is stored once.",
        Answer,
    ),
    "done": Channel(
        subjects.ask(P, D, "done"),
        "client",
        "combiner",
        (TransferDone,),
        "My transfer is over.",
        Answer,
    ),
    "decline": Channel(
        subjects.ask(P, D, "decline"),
        "client",
        "combiner",
        (Decline,),
        "My owner's policy does not allow this task.",
        Answer,
    ),
    "refusal": Channel(
        subjects.refusal_note(P, D, "{verb}.{code}"),
        "combiner",
        "api",
        (RefusalNote,),
        "A client's request was refused.",
    ),
    "validation": Channel(
        subjects.validation(P, C, S, R),
        "combiner",
        "api",
        (updates.ValidationReport,),
        "A client's validation of the model that a round made.",
    ),
    "backlog": Channel(
        subjects.backlog(P, C), "combiner", "api", (Backlog,), "What waits at a client."
    ),
    "logged": Channel(
        subjects.logged(P, C, "{kind}"),
        "combiner",
        "api",
        (StoredRecords,),
        "What a client logged, one kind a subject.",
    ),
    "attributes": Channel(
        subjects.attributes_record(P, C),
        "combiner",
        "controller",
        (ClientAttributes,),
        "A client's attributes now.",
    ),
    "command-log": Channel(
        subjects.command_log(P, K),
        "controller",
        "controller",
        (CommandEntry,),
        "A command's log. Appended with compare-and-set by controllers only.",
    ),
    "live-command": Channel(
        subjects.live_command(P, K), "bus", "api", (CommandEntry,), "What the log republishes."
    ),
    "command-order": Channel(
        subjects.command_input(P, K, "order"),
        "api",
        "controller",
        (RunCommand, StepCommand, StopCommand),
        "Begin a command, skip on, or stop it.",
    ),
    "command-started": Channel(
        subjects.command_input(P, K, "started"),
        "combiner",
        "controller",
        (TakeUpCommand,),
        "A client has begun a task of its own.",
    ),
    "command-timeout": Channel(
        subjects.command_input(P, K, "timeout"),
        "bus",
        "controller",
        (CommandTimeout,),
        "A command's deadline that fired.",
    ),
    "command-schedule": Channel(
        subjects.command_schedule(P, K),
        "controller",
        "bus",
        (CommandTimeout,),
        "A command's one pending deadline. No consumer's filter covers it.",
    ),
    "command-mailbox": Channel(
        subjects.command_mail(P, D, K),
        "controller",
        "bus",
        (SignedMail,),
        "A client's mailbox for one command.",
    ),
    "command-result": Channel(
        subjects.result_of(P, K, C),
        "combiner",
        "controller",
        (CommandAnswer,),
        "One client's one answer to a command; the bus refuses a second one.",
    ),
    "command-progress": Channel(
        subjects.progress(P, K, C),
        "combiner",
        "api",
        (CommandProgress,),
        "How far a client is with its part.",
    ),
    "start_task": Channel(
        subjects.ask(P, D, "start_task"),
        "client",
        "combiner",
        (StartTask,),
        "I begin a task of my own.",
        Answer,
    ),
    "progress": Channel(
        subjects.ask(P, D, "progress"),
        "client",
        "combiner",
        (CommandProgress,),
        "How far I am with my part of a command.",
        Answer,
    ),
    "answer": Channel(
        subjects.ask(P, D, "answer"),
        "client",
        "combiner",
        (CommandAnswer,),
        "How my part of a command ended.",
        Answer,
    ),
    "command_grant": Channel(
        subjects.ask(P, D, "command_grant"),
        "client",
        "combiner",
        (CommandGrantRequest,),
        "May I fetch a command's model, or upload my result?",
        Answer,
    ),
    "client": Channel(
        subjects.client_record(P, D),
        "combiner",
        "controller",
        (ClientRecord,),
        "Who a pseudonym is; can be erased.",
    ),
    "model": Channel(
        subjects.model_record(P, "{digest}"),
        "api",
        "api",
        (ModelRecord,),
        "A model that somebody uploaded.",
    ),
    "package": Channel(
        subjects.package_record(P, "{digest}"),
        "api",
        "api",
        (PackageRecord,),
        "A compute package that somebody uploaded.",
    ),
    "federation": Channel(
        subjects.federation_record(P),
        "api",
        "api",
        (FederationRecord,),
        "What a project's federation runs now. Appended with compare-and-set.",
    ),
    "generation": Channel(
        subjects.generation_record(P, "{generation}"),
        "api",
        "api",
        (FederationRecord,),
        "What a generation of the federation was set up with, once a session used it.",
    ),
    "token": Channel(
        subjects.token_record(P, "{token}"),
        "api",
        "api",
        (TokenRecord,),
        "One of the api's bearer tokens, by the SHA-256 of its secret; the project `_` stands for all.",
    ),
    "device": Channel(
        subjects.device(P, D),
        "api",
        "controller",
        (DeviceRecord,),
        "A device that enrolled or was revoked; can be erased.",
    ),
    "join": Channel(
        subjects.join(P, "{join}"),
        "api",
        "api",
        (JoinRecord,),
        "A join token, by the SHA-256 of its secret, and the devices that came with it.",
    ),
    "mint": Channel(
        subjects.mint(P, D),
        "api",
        "controller",
        (Mint,),
        "Sign the token of a device that is entered.",
        Answer,
    ),
    "renew": Channel(
        subjects.ask(P, D, "renew"),
        "client",
        "controller",
        (Renew,),
        "Sign my next token.",
        Answer,
    ),
    "act": Channel(
        subjects.act(P, "{act}"),
        "api",
        "api",
        (ActRecord,),
        "A request to the api that changes something: before it is carried out, and how it was answered.",
    ),
}


def main() -> None:
    """Write the files and remove old ones."""
    files = documents()
    there = {path.name for path in TARGET.glob("*.schema.json")}
    for name in there - files.keys():
        (TARGET / name).unlink()
    for name, text in files.items():
        (TARGET / name).write_text(text)


def documents() -> dict[str, str]:
    """Give every file by its name."""
    files = {file_name(kind): _text(schema(kind)) for kind in messages()}
    return files | {"asyncapi.json": _text(asyncapi())}


def messages() -> list[type[Message]]:
    """Give every message of the bus, from all modules of the package, by name."""
    found = {
        kind
        for module in _modules()
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Message) and kind.__module__ == module.__name__
    }
    return sorted(found - {Message, Event}, key=lambda kind: kind.__name__)


def file_name(kind: type[Message]) -> str:
    """Name a message's schema: an event by its type, anything else by its class."""
    return f"{_name(kind)}.schema.json"


def schema(kind: type[Message]) -> Json:
    """Make a message's JSON Schema; what a reader takes, so unknown fields are allowed.

    A field with one possible value (`kind`) must be there: it is what tells messages apart.
    """
    made = kind.model_json_schema()
    for each in (made, *made.get("$defs", {}).values()):
        fixed = [name for name, one in each.get("properties", {}).items() if "const" in one]
        if fixed:
            each["required"] = sorted({*each.get("required", []), *fixed})
    return {"$schema": DIALECT, "$id": f"urn:fl:{_name(kind)}"} | made


def asyncapi() -> Json:
    """Make the AsyncAPI 3 document."""
    sent = {kind for channel in CHANNELS.values() for kind in _kinds(channel)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "fedbus on NATS",
            "version": "1",
            "description": "Every subject, what is sent to it and by whom. Events of the log are "
            "CloudEvents 1.0 inside of entries.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(channel) for name, channel in CHANNELS.items()},
        "operations": dict(_operations()),
        "components": {
            "messages": {
                kind.__name__: _message(kind) for kind in sorted(sent, key=lambda one: one.__name__)
            }
        },
    }


def stream_of(address: str) -> str | None:
    """Name the stream that keeps what is sent to a subject."""
    for stream in STREAMS:
        if any(covers(pattern, address) for pattern in stream.subjects):
            return stream.name
    return None


def covers(pattern: str, subject: str) -> bool:
    """Say whether a subject with wildcards covers a subject, as NATS has it."""
    wanted, given = pattern.split("."), subject.split(".")
    for place, each in enumerate(wanted):
        if each == ">":
            return len(given) > place
        if place >= len(given) or each not in ("*", given[place]):
            return False
    return len(wanted) == len(given)


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(fedbus_schemas.__path__):
        if not found.name.endswith(LEFT_OUT):
            yield importlib.import_module(f"fedbus_schemas.{found.name}")


def _name(kind: type[Message]) -> str:
    if issubclass(kind, Event):
        return kind.TYPE
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", kind.__name__).lower()


def _channel(channel: Channel) -> Json:
    described: Json = {
        "address": channel.address,
        "description": channel.text,
        "parameters": {name: {} for name in re.findall(r"{(\w+)}", channel.address)},
        "messages": {
            kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"}
            for kind in channel.messages
        },
    }
    stream = stream_of(channel.address)
    return described | ({"x-stream": stream} if stream else {})


def _operations() -> Iterator[tuple[str, Json]]:
    for name, channel in CHANNELS.items():
        operation: Json = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": f"{channel.by} → {channel.to}: {channel.text}",
        }
        if channel.answer is not None:
            operation["reply"] = {
                "address": {"location": "$message.header#/reply"},
                "messages": [{"$ref": f"#/components/messages/{channel.answer.__name__}"}],
            }
        yield name, operation


def _kinds(channel: Channel) -> set[type[Message]]:
    return {*channel.messages, *([channel.answer] if channel.answer else [])}


def _message(kind: type[Message]) -> Json:
    if kind is Message:
        return {"name": "Message", "summary": "An empty object: it was seen to.", "payload": {}}
    described: Json = {
        "name": _name(kind),
        "summary": (inspect.getdoc(kind) or "").partition("\n")[0],
        "payload": {"$ref": f"./{file_name(kind)}"},
    }
    if kind is Entry:
        described["x-events"] = sorted(EVENT_TYPES)
        described["x-event-content-type"] = envelope.CONTENT_TYPE
    if kind is CommandEntry:
        described["x-events"] = sorted(COMMAND_EVENT_TYPES)
        described["x-event-content-type"] = envelope.CONTENT_TYPE
    return described


def _text(document: Json) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
