"""Every subject on the bus, here only. `fl.<project>.` comes first; names carry no product name."""

from fedbus_schemas.ids import (
    AttemptNumber,
    ClientId,
    CommandId,
    DeviceKey,
    ProjectId,
    RoundNumber,
    SessionId,
)

ROOT = "fl"

# What streams hold ("*" stands for the project).
ALL_EVENTS = "fl.*.evt.*"
ALL_INPUTS = "fl.*.in.*.*"
ALL_SCHEDULES = "fl.*.sched.*"
ALL_MAIL = "fl.*.mbox.*.*"
ALL_UPDATES = "fl.*.upd.*.*.*.*"
ALL_WORK = "fl.*.work.*.*"
ALL_HEADS = "fl.*.head.*.*"
ALL_NOTES = "fl.*.note.>"
ALL_TELEMETRY = "fl.*.tel.>"
ALL_RECORDS = "fl.*.reg.*.*"
ALL_CLIENT_RECORDS = "fl.*.rec.*.*"
ALL_DEAD = "fl.*.dead.*.>"
ALL_TOKENS = "fl.*.token.*"
ALL_ACTS = "fl.*.act.*"
ALL_COMMANDS = "fl.*.cmd.*"
ALL_COMMAND_INPUTS = "fl.*.cin.*.*"
ALL_COMMAND_SCHEDULES = "fl.*.csched.*"
ALL_RESULTS = "fl.*.res.*.*"
ALL_PROGRESS = "fl.*.prog.*.*"
ALL_DEVICES = "fl.*.device.*"
ALL_JOINS = "fl.*.join.*"
# What crosses between the accounts.
ALL_ASKS = "fl.*.ask.*.*"
ALL_TASKS = "fl.*.task.*.*"
# Requests among services.
ALL_NOTICES = "fl.*.notice.*"
ALL_MINTS = "fl.*.mint.*"
ANY_SESSION = "any"
"""Stands for the session in a notice that concerns every waiting session of a project."""
EVERYWHERE = "_"
"""Stands for the project in what concerns every project; no project can have this name."""


def event(project: ProjectId, session: SessionId) -> str:
    """A session's log."""
    return f"fl.{project}.evt.{session}"


def live_event(project: ProjectId, session: SessionId = "*") -> str:
    """What EVENTS republishes after an entry is stored; the only place to listen live."""
    return f"fl.{project}.live.evt.{session}"


def command(project: ProjectId, session: SessionId) -> str:
    """An operator's command to a session."""
    return f"fl.{project}.in.{session}.command"


def result(project: ProjectId, session: SessionId) -> str:
    """A finish item's result."""
    return f"fl.{project}.in.{session}.result"


def deadline(project: ProjectId, session: SessionId) -> str:
    """Where a fired deadline arrives."""
    return f"fl.{project}.in.{session}.deadline"


def schedule(project: ProjectId, session: SessionId) -> str:
    """Where a session's one pending deadline lies. No consumer filter may cover it: an ack deletes it."""
    return f"fl.{project}.sched.{session}"


def notice(project: ProjectId, session: SessionId) -> str:
    """A request from a combiner to the controllers: look at this session now."""
    return f"fl.{project}.notice.{session}"


def mail(project: ProjectId, device: DeviceKey, session: SessionId = "*") -> str:
    """A client's mailbox for one session."""
    return f"fl.{project}.mbox.{device}.{session}"


def task(project: ProjectId, device: DeviceKey, session: SessionId = "*") -> str:
    """Where the client hears its mail live."""
    return f"fl.{project}.task.{device}.{session}"


def update(
    project: ProjectId,
    session: SessionId,
    round_number: RoundNumber | str,
    client: ClientId,
    attempt: AttemptNumber | str,
) -> str:
    """One client's one update for one attempt of a round."""
    return f"fl.{project}.upd.{session}.{round_number}.{client}.{attempt}"


def updates_of(
    project: ProjectId,
    session: SessionId,
    round_number: RoundNumber | str,
    attempt: AttemptNumber | str,
) -> str:
    """All clients' updates for one attempt of a round."""
    return update(project, session, round_number, "*", attempt)


def updates_of_session(project: ProjectId, session: SessionId) -> str:
    """All updates of a session."""
    return f"fl.{project}.upd.{session}.*.*.*"


def live_update(project: ProjectId, session: SessionId = "*") -> str:
    """What UPDATES republishes after an update is stored."""
    return f"fl.{project}.live.upd.{session}.>"


def work(project: ProjectId, session: SessionId, kind: str) -> str:
    """A work item; `kind` is fold or finish."""
    return f"fl.{project}.work.{session}.{kind}"


def head(project: ProjectId, session: SessionId, number: int | str) -> str:
    """A signed head of a session's chain."""
    return f"fl.{project}.head.{session}.{number}"


def refusal_note(project: ProjectId, client: ClientId | DeviceKey, code: str) -> str:
    """A note that something of a client's was refused."""
    return f"fl.{project}.note.refusal.{client}.{code}"


def validation(
    project: ProjectId, client: ClientId, session: SessionId, round_number: int | str
) -> str:
    """A client's validation report of the model a round made."""
    return f"fl.{project}.tel.{client}.validation.{session}.{round_number}"


def backlog(project: ProjectId, client: ClientId = "*") -> str:
    """What waits at a client to be sent, as it said last."""
    return f"fl.{project}.tel.{client}.backlog"


def logged(project: ProjectId, client: ClientId = "*", kind: str = "*") -> str:
    """What a client logs; `kind` is one of `records.RecordKind`."""
    return f"fl.{project}.rec.{client}.{kind}"


def live_logged(project: ProjectId) -> str:
    """What RECORDS republishes after a batch is stored."""
    return f"fl.{project}.live.rec.>"


def live_telemetry(project: ProjectId) -> str:
    """What TELEMETRY republishes after a message is stored."""
    return f"fl.{project}.live.tel.>"


def client_record(project: ProjectId, device: DeviceKey = "*") -> str:
    """A client's registry record."""
    return f"fl.{project}.reg.client.{device}"


def model_record(project: ProjectId, digest: str = "*") -> str:
    """An uploaded model's registry record."""
    return f"fl.{project}.reg.model.{digest}"


def attributes_record(project: ProjectId, client: ClientId = "*") -> str:
    """A client's attributes now."""
    return f"fl.{project}.reg.attributes.{client}"


def package_record(project: ProjectId, digest: str = "*") -> str:
    """A stored compute package's registry record."""
    return f"fl.{project}.reg.package.{digest}"


def federation_record(project: ProjectId) -> str:
    """What the project's federation runs now."""
    return f"fl.{project}.reg.federation.current"


def generation_record(project: ProjectId, number: int | str = "*") -> str:
    """What one generation of the project's federation was set up with."""
    return f"fl.{project}.reg.generation.{number}"


def stage_record(project: ProjectId, stage: str = "*") -> str:
    """A stage of models: which one is in it."""
    return f"fl.{project}.reg.stage.{stage}"


def token_record(project: ProjectId, name: str = "*") -> str:
    """The record of one of the api's tokens."""
    return f"fl.{project}.token.{name}"


def device(project: ProjectId, key: DeviceKey = "*") -> str:
    """The record of a device that enrolled or was revoked."""
    return f"fl.{project}.device.{key}"


def live_device(project: ProjectId = "*") -> str:
    """What DEVICES republishes after a device's record is stored."""
    return f"fl.{project}.live.device.*"


def join(project: ProjectId, name: str = "*") -> str:
    """The record of a join token."""
    return f"fl.{project}.join.{name}"


def mint(project: ProjectId, key: DeviceKey) -> str:
    """A request from the api to the controllers: sign this device's token."""
    return f"fl.{project}.mint.{key}"


def act(project: ProjectId, name: str = "*") -> str:
    """The record of a request to the api that changes something."""
    return f"fl.{project}.act.{name}"


def live_record(project: ProjectId = "*") -> str:
    """What REGISTRY republishes after a record is stored."""
    return f"fl.{project}.live.reg.>"


def ask(project: ProjectId, device: DeviceKey, verb: str) -> str:
    """A client's request to the services."""
    return f"fl.{project}.ask.{device}.{verb}"


def dead(stream: str, subject: str) -> str:
    """Where a message goes that nobody could handle; keeps its project and its old subject."""
    _, project, rest = subject.split(".", 2)
    return f"fl.{project}.dead.{stream}.{rest}"


def all_dead(project: ProjectId, stream: str = "*") -> str:
    """A project's dead letters, perhaps of one stream only."""
    return f"fl.{project}.dead.{stream}.>"


def buried(subject: str) -> tuple[str, str]:
    """Give the stream and the subject that a dead letter had before."""
    _, project, _, stream, rest = subject.split(".", 4)
    return stream, f"fl.{project}.{rest}"


def redo(project: ProjectId, session: SessionId) -> str:
    """An operator's order to deliver a dead letter of this session again."""
    return f"fl.{project}.in.{session}.redo"


def dead_note(project: ProjectId, letter: int, outcome: str = "*") -> str:
    """A note of what an operator did with a dead letter."""
    return f"fl.{project}.note.dead.{letter}.{outcome}"


def command_log(project: ProjectId, command: CommandId = "*") -> str:
    """A command's log."""
    return f"fl.{project}.cmd.{command}"


def live_command(project: ProjectId, command: CommandId = "*") -> str:
    """What COMMANDS republishes after an entry is stored."""
    return f"fl.{project}.live.cmd.{command}"


def command_input(project: ProjectId, command: CommandId, kind: str) -> str:
    """What a controller is told about a command: `order` (api), `started` (combiner), `timeout` (the bus)."""
    return f"fl.{project}.cin.{command}.{kind}"


def command_schedule(project: ProjectId, command: CommandId) -> str:
    """Where a command's one pending deadline lies. No consumer filter may cover it."""
    return f"fl.{project}.csched.{command}"


def command_mail(project: ProjectId, device: DeviceKey, command: CommandId) -> str:
    """A client's mailbox for one command. The underscore keeps it apart from every session's."""
    return mail(project, device, f"cmd_{command}")


def result_of(project: ProjectId, command: CommandId, client: ClientId = "*") -> str:
    """One client's one answer to a command."""
    return f"fl.{project}.res.{command}.{client}"


def live_result(project: ProjectId, command: CommandId = "*") -> str:
    """What RESULTS republishes after an answer is stored."""
    return f"fl.{project}.live.res.{command}.*"


def progress(project: ProjectId, command: CommandId, client: ClientId = "*") -> str:
    """How far a client is with its part of a command."""
    return f"fl.{project}.prog.{command}.{client}"


def live_progress(project: ProjectId, command: CommandId = "*") -> str:
    """What PROGRESS republishes."""
    return f"fl.{project}.live.prog.{command}.*"


def token(subject: str, index: int) -> str:
    """One token of a subject: 1 is the project, 2 the kind, 3 the session (or device, or client)."""
    return subject.split(".")[index]
