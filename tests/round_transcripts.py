"""Transcripts of a session: inputs in, events and effects out.

A transcript is a text file of blocks. A block is a line with one input, and under it what came of it:
`>` an event that was appended, `.` an effect that was wanted, `=` what the clients have to know (only
where mail is an effect), `-` why nothing was decided. A line with `#` is a comment. Times are in
seconds after the session's start, `1.2` is attempt 2 of round 1, `1.2/3` its third closing.

    start minimum=2 online=abc     begin, with these settings
    online ab                      from now on these clients are online
    wait 5                         time passes
    store ab                       updates of these clients are stored
    target [1.1]                   "the target is reached"
    deadline [late=9] [due=60]     the pending deadline fires, so much later than it was due
    finish [bad=a] [of=1.1/1]      a combiner's result for the last closing (or for an earlier one)
    clients                        "clients came online"
    pause, resume, stop, archive   what an operator wants
    extend 2 [timeout=30]          the same
    again                          the last input once more, with the same id
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from fedbus_core.rounds.effects import (
    AskFinish,
    DropUpdates,
    Effect,
    Forget,
    KeepDeadline,
    KeepLive,
    KeepMail,
    SignHead,
)
from fedbus_core.rounds.mail import addressees, receipts, tasks
from fedbus_core.rounds.state import Session
from fedbus_schemas.events import AnyEvent, RoundClosing
from fedbus_schemas.inputs import ClientsChanged, DeadlineFired, Input, TargetReached
from fedbus_schemas.models import ModelRef
from fedbus_schemas.sessions import (
    ArchiveSession,
    ExtendSession,
    PauseSession,
    ResumeSession,
    StopSession,
)
from fedbus_schemas.tasks import Receipt, TrainTask

from tests.round_worlds import START, RoundWorld, model, result

OUTPUT = (">", ".", "=", "-")
MODELS = {model(number).digest: f"m{number}" for number in range(20)}


def replay(text: str) -> str:
    """Give the transcript as it is when its inputs are run now; comments and blank lines stay."""
    reader = Transcript()
    out: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith(OUTPUT):
            continue
        out.append(line)
        if line.strip() and not line.startswith("#"):
            out += [f"  {each}" for each in reader.run(line)]
    return "\n".join(out) + "\n"


class Transcript:
    """Runs the lines of one transcript."""

    def __init__(self) -> None:
        self.world = RoundWorld()
        self.closings: dict[str, RoundClosing] = {}
        self.last: tuple[Input, str] | None = None
        self.inputs = 0

    def run(self, line: str) -> Iterator[str]:
        """Run one input and say what came of it."""
        verb, *words = line.split()
        named = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        match verb:
            case "start":
                self.world.online = named.pop("online", "abc")
                self.world.start(**named)
                yield from self.told()
            case "online":
                self.world.online = "".join(plain)
            case "wait":
                self.world.later(float(plain[0]))
            case "store":
                self.world.store("".join(plain))
            case "again":
                assert self.last is not None
                self.world.give(*self.last)
                yield from self.told()
            case _:
                self.inputs += 1
                given = self.input(verb, plain, named)
                self.last = given, f"{verb}-{self.inputs}"
                self.world.give(*self.last)
                yield from self.told()

    def input(self, verb: str, plain: list[str], named: dict[str, str]) -> Input:
        """Make the input that a line stands for."""
        simple: dict[str, Callable[[], Input]] = {
            "clients": ClientsChanged,
            "pause": PauseSession,
            "resume": ResumeSession,
            "stop": StopSession,
            "archive": ArchiveSession,
        }
        if verb in simple:
            return simple[verb]()
        match verb:
            case "extend":
                timeout_s = float(named["timeout"]) if "timeout" in named else None
                return ExtendSession(rounds=int(plain[0]), round_timeout_s=timeout_s)
            case "target":
                number, attempt = self.attempt(plain)
                return TargetReached(round=number, attempt=attempt)
            case "deadline":
                return self.deadline(plain, named)
            case "finish":
                return self.finish(named)
            case _:
                raise AssertionError(f"no such input: {verb}")

    def attempt(self, plain: list[str]) -> tuple[int, int]:
        """Read `1.2`, or give the attempt that is open or comes next."""
        if plain:
            number, attempt = plain[0].split(".")
            return int(number), int(attempt)
        state = self.world.session
        if state.round is not None:
            return state.round.number, state.round.attempt
        return state.completed + 1, state.next_attempt

    def deadline(self, plain: list[str], named: dict[str, str]) -> DeadlineFired:
        """Let the pending deadline (or the one named) fire; time goes on to then."""
        state = self.world.session
        due = state.round.deadline if state.round else state.look_again
        if "due" in named:
            due = START + timedelta(seconds=float(named["due"]))
        assert due is not None
        self.world.now = max(self.world.now, due + timedelta(seconds=float(named.get("late", "0"))))
        number, attempt = self.attempt(plain)
        return DeadlineFired(round=number, attempt=attempt, due=due)

    def finish(self, named: dict[str, str]) -> Input:
        """Make the result of a closing."""
        bad = named.get("bad", "")
        if "of" not in named:
            return self.world.result(bad)
        closing = self.closings[named["of"]]
        return result(closing, [each for each in named.get("good", "") if each not in bad], bad)

    def told(self) -> Iterator[str]:
        """Say what the last input led to."""
        decision, wanted = self.world.last
        if decision.refusal is not None:
            yield f"- {decision.refusal.code}: {decision.refusal.detail}"
            return
        for event in decision.events:
            if isinstance(event, RoundClosing):
                self.closings[f"{event.round}.{event.attempt}/{event.step}"] = event
            yield f"> {_event(event)}"
        for effect in wanted:
            yield f". {_effect(effect)}"
            if isinstance(effect, KeepMail):
                yield from (f"= {each}" for each in _mail(self.world.session))


def _event(event: AnyEvent) -> str:
    fields = event.model_dump(exclude_defaults=True)
    for long in ("settings", "trace_id", "included", "layout", "project", "session", "rule"):
        fields.pop(long, None)
    words = [f"{name}={_value(name, value)}" for name, value in fields.items()]
    return " ".join([event.TYPE, *words])


def _value(name: str, value: object) -> str:
    match value:
        case datetime():
            return _seconds(value)
        case {"digest": str() as digest}:
            return MODELS[digest]
        case tuple() if name == "refused":
            return ",".join(f"{each['client'][1]}:{each['code']}" for each in value)
        case tuple() if name == "cohort":
            return "".join(each["client"][1] for each in value)
        case tuple():
            return "".join(each[1] for each in value)
        case str() if value in MODELS:
            return MODELS[value]
        case str() if " " in value:
            return repr(value)
        case _:
            return str(value)


def _effect(effect: Effect) -> str:
    match effect:
        case KeepMail():
            return "mail"
        case KeepLive(live):
            return f"live {live.phase} {live.round}.{live.attempt} target={live.target}"
        case KeepDeadline(None):
            return "no deadline"
        case KeepDeadline(at, message):
            assert at is not None
            assert message is not None
            return f"deadline {_seconds(at)} of {message.round}.{message.attempt}"
        case AskFinish(item):
            place = effect.work_id.split(".", 2)[2]
            return f"finish {place} cutoff={item.closing.cutoff}"
        case SignHead(number):
            return f"sign head {number}"
        case Forget(number, attempt):
            return f"forget {number}.{attempt}"
        case DropUpdates(None):
            return "drop all updates"
        case DropUpdates(number, attempt):
            return f"drop updates of {number}.{attempt}"


def _mail(state: Session) -> Iterator[str]:
    for client in sorted(addressees(state)):
        receipt = [_receipt(each) for each in receipts(state, client)]
        asked = [
            f"train {task.round}.{task.attempt} from {MODELS[task.model.digest]}"
            if isinstance(task, TrainTask)
            else f"validate {MODELS[task.model.digest]}"
            for task in tasks(state, client, _no_inline)
        ]
        yield f"{client[1]}: {', '.join([*receipt, *asked]) or 'nothing to do'}"


def _receipt(receipt: Receipt) -> str:
    code = f" ({receipt.refusal.code})" if receipt.refusal else ""
    return f"{receipt.round}.{receipt.attempt} {receipt.fate}{code}"


def _no_inline(_: ModelRef) -> str | None:
    return None


def _seconds(moment: datetime) -> str:
    return f"{(moment - START).total_seconds():g}s"
