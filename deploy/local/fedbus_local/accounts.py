"""Who may do what on the bus: allow-lists only, for the two accounts CORE and EDGE.

CORE holds the services and every stream, EDGE the clients, without JetStream. Only two things cross:
a client's requests, and the live feed of its own tasks. Nobody may subscribe a stream's own subject.
"""

from dataclasses import dataclass

from fedbus_schemas import streams, subjects
from fedbus_schemas.ids import DeviceKey, ProjectId

INBOXES = "_INBOX.>"
LIVE = "fl.*.live.>"

SERVED = (subjects.ALL_ASKS, subjects.ALL_NOTICES, LIVE, INBOXES)
"""What every service may hear: requests, notices, live feeds and its answers."""

_SETTLING = ("$JS.ACK.>", INBOXES, "fl.*.dead.>", subjects.ALL_NOTES)

_READING = (
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.INFO.*.*",
    "$JS.API.CONSUMER.MSG.NEXT.*.*",
)

_CREATING = (
    *(f"$JS.API.STREAM.CREATE.{each.name}" for each in streams.STREAMS),
    *(f"$JS.API.CONSUMER.CREATE.{each.stream}.{each.name}.>" for each in streams.CONSUMERS),
)
"""Whoever starts first may make what is missing; only a controller may change or remove what is there."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects one user may publish and subscribe. `answers`: may reply to what it received."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool = False


CONTROLLER = Permissions(
    publish=(
        subjects.ALL_EVENTS,
        "fl.*.mbox.>",
        subjects.ALL_SCHEDULES,
        "fl.*.head.>",
        "fl.*.work.*.finish",
        "$JS.API.>",
        *_SETTLING,
    ),
    subscribe=SERVED,
    answers=True,
)

COMBINER = Permissions(
    publish=(
        "fl.*.upd.>",
        "fl.*.work.*.fold",
        "fl.*.in.*.result",
        subjects.ALL_NOTICES,
        subjects.ALL_TELEMETRY,
        "fl.*.reg.>",
        *_READING,
        *_CREATING,
        *_SETTLING,
    ),
    subscribe=SERVED,
    answers=True,
)

API = Permissions(
    publish=(
        "fl.*.in.*.command",
        "fl.*.reg.>",
        "$JS.API.STREAM.PURGE.REGISTRY",
        "$JS.API.STREAM.MSG.DELETE.REGISTRY",
        *_READING,
        *_CREATING,
        *_SETTLING,
    ),
    subscribe=SERVED,
    answers=True,
)

SERVICES = {"controller": CONTROLLER, "combiner": COMBINER, "api": API}


def client(project: ProjectId, device: DeviceKey) -> Permissions:
    """Give what one client may do: ask as itself, hear its own tasks and its own answers."""
    return Permissions(
        publish=(subjects.ask(project, device, "*"),),
        subscribe=(subjects.task(project, device), f"_INBOX.{device}.>"),
    )
