"""Every stream and consumer with its settings, here only."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from fedbus_schemas import subjects

RECORDS_PER_SUBJECT_MAX = 20_000
"""Batches of one kind that RECORDS keeps of one client: nobody's flood pushes out another's records."""


class Retention(StrEnum):
    """When a stream lets go of a message."""

    KEEP = "limits"
    WORK_QUEUE = "workqueue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A JetStream stream.

    `one_per_subject`: "last" replaces, "first" refuses a second message for ever (no time window).
    `protected`: neither delete nor purge. `pruned`: protected but for purging a subject, which a
    retention rule does after the log says so. `republish`: (source, destination) of the live feed, sent
    after the store and never for an append that was refused. `per_subject_max`: of more messages on one
    subject the oldest goes.
    """

    name: str
    subjects: tuple[str, ...]
    retention: Retention = Retention.KEEP
    memory: bool = False
    one_per_subject: str | None = None
    per_subject_max: int | None = None
    protected: bool = False
    pruned: bool = False
    schedules: bool = False
    message_ttl: bool = False
    republish: tuple[str, str] | None = None
    age_max: timedelta | None = None
    bytes_max: int | None = None
    message_bytes_max: int = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A durable pull consumer, shared by all instances of one service.

    `deliveries_max` is counted by us (`runtime.consumer`): a used-up `max_deliver` of the server would
    leave the message in a work queue for ever. `unused_max`: the server forgets a consumer that nobody
    asked for so long.
    """

    name: str
    stream: str
    filter: str
    ack_wait: timedelta = timedelta(seconds=2)
    deliveries_max: int = 20
    pending_max: int = 1000
    unused_max: timedelta | None = None


EVENTS = Stream(
    name="EVENTS",
    subjects=(subjects.ALL_EVENTS,),
    protected=True,
    republish=("fl.*.evt.*", "fl.{{wildcard(1)}}.live.evt.{{wildcard(2)}}"),
)
INBOX = Stream(
    name="INBOX",
    subjects=(
        subjects.ALL_INPUTS,
        subjects.ALL_SCHEDULES,
        subjects.ALL_COMMAND_INPUTS,
        subjects.ALL_COMMAND_SCHEDULES,
    ),
    retention=Retention.WORK_QUEUE,
    schedules=True,
)
MAIL = Stream(
    name="MBOX",
    subjects=(subjects.ALL_MAIL,),
    memory=True,
    one_per_subject="last",
    message_ttl=True,
    republish=("fl.*.mbox.*.*", "fl.{{wildcard(1)}}.task.{{wildcard(2)}}.{{wildcard(3)}}"),
    age_max=timedelta(days=7),
)
UPDATES = Stream(
    name="UPDATES",
    subjects=(subjects.ALL_UPDATES,),
    one_per_subject="first",
    protected=True,
    pruned=True,
    republish=(
        "fl.*.upd.*.*.*.*",
        "fl.{{wildcard(1)}}.live.upd.{{wildcard(2)}}.{{wildcard(3)}}.{{wildcard(4)}}.{{wildcard(5)}}",
    ),
)
WORK = Stream(name="WORK", subjects=(subjects.ALL_WORK,), retention=Retention.WORK_QUEUE)
HEADS = Stream(
    name="HEADS", subjects=(subjects.ALL_HEADS,), one_per_subject="first", protected=True
)
NOTES = Stream(
    name="NOTES",
    subjects=(subjects.ALL_NOTES,),
    age_max=timedelta(days=30),
    bytes_max=256 * 1024 * 1024,
)
TELEMETRY = Stream(
    name="TELEMETRY",
    subjects=(subjects.ALL_TELEMETRY,),
    one_per_subject="last",
    republish=("fl.*.tel.>", "fl.{{wildcard(1)}}.live.tel.>"),
    age_max=timedelta(days=90),
    bytes_max=1024 * 1024 * 1024,
)
RECORDS = Stream(
    name="RECORDS",
    subjects=(subjects.ALL_CLIENT_RECORDS,),
    per_subject_max=RECORDS_PER_SUBJECT_MAX,
    republish=("fl.*.rec.*.*", "fl.{{wildcard(1)}}.live.rec.{{wildcard(2)}}.{{wildcard(3)}}"),
    age_max=timedelta(days=90),
    bytes_max=8 * 1024**3,
    message_bytes_max=256 * 1024,
)
REGISTRY = Stream(
    name="REGISTRY",
    subjects=(subjects.ALL_RECORDS,),
    one_per_subject="last",
    republish=("fl.*.reg.*.*", "fl.{{wildcard(1)}}.live.reg.{{wildcard(2)}}.{{wildcard(3)}}"),
)
DEAD = Stream(
    name="DEAD",
    subjects=(subjects.ALL_DEAD,),
    age_max=timedelta(days=90),
    bytes_max=1024 * 1024 * 1024,
)
TOKENS = Stream(name="TOKENS", subjects=(subjects.ALL_TOKENS,), one_per_subject="last")
DEVICES = Stream(
    name="DEVICES",
    subjects=(subjects.ALL_DEVICES, subjects.ALL_JOINS),
    one_per_subject="last",
    republish=("fl.*.device.*", "fl.{{wildcard(1)}}.live.device.{{wildcard(2)}}"),
)
ACTS = Stream(
    name="ACTS",
    subjects=(subjects.ALL_ACTS,),
    one_per_subject="last",
    protected=True,
    age_max=timedelta(days=400),
    bytes_max=1024 * 1024 * 1024,
    message_bytes_max=16 * 1024,
)
COMMANDS = Stream(
    name="COMMANDS",
    subjects=(subjects.ALL_COMMANDS,),
    protected=True,
    republish=("fl.*.cmd.*", "fl.{{wildcard(1)}}.live.cmd.{{wildcard(2)}}"),
    age_max=timedelta(days=30),
    bytes_max=512 * 1024 * 1024,
)
RESULTS = Stream(
    name="RESULTS",
    subjects=(subjects.ALL_RESULTS,),
    one_per_subject="first",
    protected=True,
    republish=("fl.*.res.*.*", "fl.{{wildcard(1)}}.live.res.{{wildcard(2)}}.{{wildcard(3)}}"),
    age_max=timedelta(days=30),
    bytes_max=4 * 1024 * 1024 * 1024,
)
PROGRESS = Stream(
    name="PROGRESS",
    subjects=(subjects.ALL_PROGRESS,),
    memory=True,
    one_per_subject="last",
    republish=("fl.*.prog.*.*", "fl.{{wildcard(1)}}.live.prog.{{wildcard(2)}}.{{wildcard(3)}}"),
    age_max=timedelta(days=7),
    bytes_max=32 * 1024 * 1024,
)

STREAMS = (
    EVENTS,
    INBOX,
    MAIL,
    UPDATES,
    WORK,
    HEADS,
    NOTES,
    TELEMETRY,
    RECORDS,
    REGISTRY,
    DEAD,
    TOKENS,
    DEVICES,
    ACTS,
    COMMANDS,
    RESULTS,
    PROGRESS,
)

CONTROLLERS = Consumer(name="controllers", stream="INBOX", filter=subjects.ALL_INPUTS)
PERFORMERS = Consumer(name="performers", stream="EVENTS", filter=subjects.ALL_EVENTS)
TALLIES = Consumer(name="tallies", stream="UPDATES", filter=subjects.ALL_UPDATES)
COMBINERS = Consumer(name="combiners", stream="WORK", filter=subjects.ALL_WORK)
COMMANDERS = Consumer(name="commanders", stream="INBOX", filter=subjects.ALL_COMMAND_INPUTS)
COMMAND_PERFORMERS = Consumer(
    name="command-performers", stream="COMMANDS", filter=subjects.ALL_COMMANDS
)
ANSWERS = Consumer(name="answers", stream="RESULTS", filter=subjects.ALL_RESULTS)

TRACERS = Consumer(
    name="tracers",
    stream="EVENTS",
    filter=subjects.ALL_EVENTS,
    ack_wait=timedelta(seconds=30),
    deliveries_max=10_000,
    unused_max=timedelta(days=1),
)
"""Shows ended rounds in traces; made by a controller that has somewhere to send them."""

CONSUMERS = (
    CONTROLLERS,
    PERFORMERS,
    TALLIES,
    COMBINERS,
    COMMANDERS,
    COMMAND_PERFORMERS,
    ANSWERS,
)
