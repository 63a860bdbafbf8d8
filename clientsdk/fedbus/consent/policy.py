"""What the data's owner allows, and the one decision on a task. Pure: no file, no clock, no server.

A rule's name is its place in the policy file: `cohort.smallest` is `smallest` in the table `[cohort]`. The
rules are asked in the order of `RULES`; the first that denies is the answer.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self, TypeAlias
from zoneinfo import ZoneInfo

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from fedbus_schemas import signing
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StringConstraints
from pydantic import model_validator as model_check

from fedbus.consent.hours import check_window, check_zone, within

ENTRIES_MAX = 1000
"""Entries in one list of a policy."""
MIB = 1024 * 1024

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=128, strict=True)]
"""A name; `*` stands for any text and `?` for any character."""
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=ENTRIES_MAX)]
Digests = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")], ...],
    Field(max_length=ENTRIES_MAX),
]
Keys = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")], ...],
    Field(max_length=ENTRIES_MAX),
]


Keyed: TypeAlias = Literal["metrics", "attributes", "telemetry", "results"]
Loggable: TypeAlias = Keyed | Literal["events"]


class Section(BaseModel):
    """A table of the policy file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tasks(Section):
    """Which kinds of tasks are done at all."""

    train: StrictBool = True
    validate_models: StrictBool = Field(default=True, alias="validate")
    inference: StrictBool = False
    stage_model: StrictBool = False
    restart: StrictBool = False
    split_learning: StrictBool = False
    custom: Patterns = ()


class Sessions(Section):
    """Which sessions, by id or name, and which projects."""

    allow: Patterns = ("*",)
    deny: Patterns = ()
    projects: Patterns = ("*",)


class Hours(Section):
    """When a task may begin: in one of the windows; none = always. A window may pass midnight."""

    windows: Annotated[
        tuple[Annotated[str, AfterValidator(check_window)], ...], Field(max_length=ENTRIES_MAX)
    ] = ()
    timezone: Annotated[str, AfterValidator(check_zone)] = ""


class Cohort(Section):
    """How many clients must be asked together, so that no sum is about a few."""

    smallest: Annotated[int, Field(ge=1, strict=True)] = 1


class Packages(Section):
    """Whose code runs: this machine's own, and which of what servers send."""

    local: StrictBool = True
    remote: Literal["none", "digests", "signers", "any"] = "none"
    digests: Digests = ()
    signers: Keys = ()

    @model_check(mode="after")
    def _lists_are_used(self) -> Self:
        for name in ("digests", "signers"):
            if (self.remote == name) != bool(getattr(self, name)):
                raise ValueError(f'remote = "{name}" and a list of {name} belong together')
        return self


class Limits(Section):
    """What a task may use. None = no limit.

    `cpu_s` and `memory_mib` bind code that runs in a process of its own; `wall_s` binds every task.
    """

    cpu_s: Annotated[float, Field(gt=0)] | None = None
    memory_mib: Annotated[int, Field(ge=1, strict=True)] | None = None
    wall_s: Annotated[float, Field(gt=0)] | None = None


class Outgoing(Section):
    """What may leave beside updates: by keys, and how much a day. Events are lines of text for people."""

    metrics: Patterns | None = None
    attributes: Patterns | None = None
    telemetry: Patterns | None = None
    results: Patterns | None = None
    events: StrictBool = True
    mib_per_day: Annotated[float, Field(gt=0)] | None = None

    def may_leave(self, what: Loggable, key: str) -> bool:
        """Whether a value with this key may be sent; events have none."""
        if what == "events":
            return self.events
        allowed: Patterns | None = getattr(self, what)
        return allowed is None or _matches(allowed, key)


class Policy(Section):
    """All that the data's owner says. What is left out has the default of its table."""

    tasks: Tasks = Tasks()
    sessions: Sessions = Sessions()
    hours: Hours = Hours()
    cohort: Cohort = Cohort()
    packages: Packages = Packages()
    limits: Limits = Limits()
    outgoing: Outgoing = Outgoing()


WITHOUT_A_FILE = Policy(
    tasks=Tasks(inference=True, stage_model=True, restart=True, split_learning=True, custom=("*",)),
    packages=Packages(remote="any"),
)
"""What holds where the owner wrote nothing: whoever started the client chose what it does."""


@dataclass(frozen=True, slots=True)
class Package:
    """The code that a task would run. `signers` are the keys whose signature over the digest holds."""

    origin: Literal["local", "remote"]
    digest: str = ""
    signers: tuple[str, ...] = ()

    @classmethod
    def remote(cls, digest: str, signatures: Iterable[tuple[str, str]] = ()) -> Self:
        """A package that a server sends, with its (key, signature) pairs; false ones are left out."""
        holding = (key for key, signature in signatures if _signed(key, digest, signature))
        return cls("remote", digest, tuple(sorted(set(holding))))


LOCAL = Package("local")
"""This machine's own code: functions given to the client, or a local folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A task as it is asked for.

    `kind` is `train`, `validate`, `inference`, `stage_model`, `restart`, `split_learning` or `custom:NAME`.
    `command` is the id of the command that it belongs to, if it is of no round. `now` is the time where the
    data is; `sent_bytes` is what left today; `size` what the task would send.
    """

    kind: str
    project: str
    session: str = ""
    session_name: str = ""
    round: int | None = None
    attempt: int | None = None
    command: str = ""
    model: str = ""
    cohort: int | None = None
    package: Package = LOCAL
    local_refused: bool = False
    size: int = 0
    sent_bytes: int = 0
    now: datetime | None = field(default=None, compare=False)

    def __str__(self) -> str:
        place = f"{self.session} round {self.round}" if self.round else self.session
        return f"{self.kind} ({place or self.command or self.project})"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The task may begin, within these limits."""

    limits: Limits


@dataclass(frozen=True, slots=True)
class Denied:
    """The task is declined, by the rule of this name."""

    rule: str
    detail: str


Verdict: TypeAlias = Allowed | Denied


def decide(policy: Policy, request: Request) -> Verdict:
    """Decide on a task before anything of it is fetched or run."""
    for rule in RULES:
        denied = rule(policy, request)
        if denied is not None:
            return denied
    return Allowed(policy.limits)


def over_a_day(policy: Policy, sent: int, size: int) -> Denied | None:
    """Say whether so many bytes more, after those that left today, are too many for a day."""
    most = policy.outgoing.mib_per_day
    if most is None or sent + size <= most * MIB:
        return None
    detail = f"{size} bytes more would leave today after {sent}, at most {most:g} MiB"
    return Denied("outgoing.mib_per_day", detail)


def _project(policy: Policy, request: Request) -> Denied | None:
    if _matches(policy.sessions.projects, request.project):
        return None
    return Denied("sessions.projects", f"project {request.project!r} is not listed")


def _session(policy: Policy, request: Request) -> Denied | None:
    names = [name for name in (request.session, request.session_name) if name]
    for name in names:
        if _matches(policy.sessions.deny, name):
            return Denied("sessions.deny", f"session {name!r} is listed")
    if not names or any(_matches(policy.sessions.allow, name) for name in names):
        return None
    return Denied("sessions.allow", f"session {' or '.join(map(repr, names))} is not listed")


def _kind(policy: Policy, request: Request) -> Denied | None:
    kind, _, name = request.kind.partition(":")
    if kind == "custom":
        if _matches(policy.tasks.custom, name):
            return None
        return Denied("tasks.custom", f"the command {name!r} is not listed")
    allowed = policy.tasks.model_dump(by_alias=True).get(kind)
    if allowed is True:
        return None
    if allowed is None or not isinstance(allowed, bool):
        return Denied("tasks.unknown", f"no policy knows the kind of task {request.kind[:64]!r}")
    return Denied(f"tasks.{kind}", "this kind of task is not done here")


def _cohort(policy: Policy, request: Request) -> Denied | None:
    smallest = policy.cohort.smallest
    if smallest == 1 or request.kind not in ("train", "split_learning"):
        return None
    if request.cohort is None:
        detail = f"the server does not say how many clients were asked; at least {smallest} must be"
        return Denied("cohort.smallest", detail)
    if request.cohort >= smallest:
        return None
    detail = f"{request.cohort} clients were asked, the policy wants at least {smallest}"
    return Denied("cohort.smallest", detail)


def _code(policy: Policy, request: Request) -> Denied | None:
    package, rules = request.package, policy.packages
    if package.origin == "local":
        if not rules.local:
            return Denied("packages.local", "code of this machine's own does not run here")
        if request.local_refused:
            detail = "the session asks for its own package, and this client would run local code"
            return Denied("server.local_packages", detail)
        return None
    what = f"package {package.digest[:12]}…"
    match rules.remote:
        case "any":
            return None
        case "none":
            return Denied("packages.remote", "code that servers send does not run here")
        case "digests":
            listed = package.digest in rules.digests
            return None if listed else Denied("packages.digests", f"{what} is not listed")
        case "signers":
            listed = not {*package.signers}.isdisjoint(rules.signers)
            detail = f"{what} is signed by nobody on the list"
            return None if listed else Denied("packages.signers", detail)


def _hours(policy: Policy, request: Request) -> Denied | None:
    hours = policy.hours
    if not hours.windows:
        return None
    if request.now is None:
        return Denied("hours.windows", "the time is not known")
    zone = ZoneInfo(hours.timezone) if hours.timezone else None
    here = request.now.astimezone(zone) if zone else request.now
    if any(within(window, here) for window in hours.windows):
        return None
    return Denied("hours.windows", f"{here:%a %H:%M} is in none of {', '.join(hours.windows)}")


def _bytes(policy: Policy, request: Request) -> Denied | None:
    return over_a_day(policy, request.sent_bytes, request.size)


RULES: tuple[Callable[[Policy, Request], Denied | None], ...] = (
    _project,
    _session,
    _kind,
    _cohort,
    _code,
    _hours,
    _bytes,
)


def _matches(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _signed(key: str, digest: str, signature: str) -> bool:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        return False
    try:
        public: ECC.EccKey = eddsa.import_public_key(signing.decode(key))
        message = signing.message(signing.PACKAGE, digest)
        eddsa.new(public, "rfc8032").verify(message, signing.decode(signature))
    except ValueError:
        return False
    return True
