"""Who may do what on the bus: allow-lists only, for the two accounts CORE and EDGE.

CORE holds the services and every stream, EDGE the clients, without JetStream. Only two things cross:
a client's requests, and the live feed of its own tasks. Nobody may subscribe a stream's own subject.
Only a controller makes or changes streams and consumers: whoever may, can let the server write anywhere.
"""

from dataclasses import dataclass

from fedbus_schemas import streams, subjects

INBOXES = "_INBOX.>"
LIVE = "fl.*.live.>"

SERVED = (subjects.ALL_ASKS, subjects.ALL_NOTICES, LIVE, INBOXES)
"""What every service may hear: requests, notices, live feeds and its answers."""

_EVERYWHERE = (
    INBOXES,
    subjects.ALL_NOTES,
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.INFO.*.*",
)
"""Answers, notes, and reading what is stored."""
_BURYING = "fl.*.dead.>"
"""Dead letters, for whoever takes messages. Not the api: it could have what it wrote itself delivered."""


def _taking(consumer: streams.Consumer) -> tuple[str, ...]:
    """Take a consumer's messages and settle them, in both forms of the server's acknowledgements."""
    name = f"{consumer.stream}.{consumer.name}"
    return (f"$JS.API.CONSUMER.MSG.NEXT.{name}", f"$JS.ACK.{name}.>", f"$JS.ACK.*.*.{name}.>")


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects one user may publish and subscribe. `answers`: may reply to what it received."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool = False


CONTROLLER = Permissions(
    publish=(
        subjects.ALL_EVENTS,
        subjects.ALL_COMMANDS,
        "fl.*.mbox.>",
        subjects.ALL_SCHEDULES,
        subjects.ALL_COMMAND_SCHEDULES,
        subjects.ALL_COMMAND_INPUTS,
        "fl.*.head.>",
        subjects.ALL_INPUTS,
        subjects.ALL_WORK,
        _BURYING,
        "$JS.API.>",
        "$JS.ACK.>",
        *_EVERYWHERE,
    ),
    subscribe=(*SERVED, subjects.ALL_MINTS),
    answers=True,
)

COMBINER = Permissions(
    publish=(
        "fl.*.upd.>",
        "fl.*.work.*.fold",
        "fl.*.in.*.result",
        "fl.*.cin.*.started",
        subjects.ALL_RESULTS,
        subjects.ALL_PROGRESS,
        subjects.ALL_NOTICES,
        subjects.ALL_TELEMETRY,
        subjects.ALL_CLIENT_RECORDS,
        "fl.*.reg.>",
        _BURYING,
        *_taking(streams.COMBINERS),
        *_taking(streams.TALLIES),
        *_EVERYWHERE,
    ),
    subscribe=SERVED,
    answers=True,
)

API = Permissions(
    publish=(
        "fl.*.in.*.command",
        "fl.*.in.*.redo",
        "fl.*.cin.*.order",
        "fl.*.reg.>",
        subjects.ALL_TOKENS,
        subjects.ALL_ACTS,
        subjects.ALL_DEVICES,
        subjects.ALL_JOINS,
        subjects.ALL_MINTS,
        "$JS.API.STREAM.MSG.DELETE.DEAD",
        "$JS.API.STREAM.PURGE.REGISTRY",
        "$JS.API.STREAM.MSG.DELETE.REGISTRY",
        *_EVERYWHERE,
    ),
    subscribe=SERVED,
    answers=True,
)

SERVICES = {"controller": CONTROLLER, "combiner": COMBINER, "api": API}


_PROJECT, _DEVICE = "{{tag(project)}}", "{{subject()}}"
CLIENT = Permissions(
    publish=(subjects.ask(_PROJECT, _DEVICE, "*"),),
    subscribe=(subjects.task(_PROJECT, _DEVICE), f"_INBOX.{_DEVICE}.>"),
)
"""What one client may do: ask as itself, hear its own tasks and its own answers.

The server fills in the device's own key and the project that its token was signed for. Never its name:
somebody called `*` would hear everybody.
"""

SYSTEM = Permissions(
    publish=("$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP"), subscribe=(INBOXES,)
)
"""What a controller may do in the system account: look up an account's token and put a newer one in place."""
