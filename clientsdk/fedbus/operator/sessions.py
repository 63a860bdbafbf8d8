"""`fedbus session …`: start sessions, give orders, look at their logs, compare them."""

import inspect
import json
from collections.abc import Callable
from typing import Annotated

import typer
from fedbus_schemas.selection import BadQuery, parse_conditions
from fedbus_schemas.views import LoggedEvent, SessionView
from pydantic import JsonValue

from fedbus.errors import BadOption
from fedbus.exit_codes import ENDED_BADLY
from fedbus.operator import naming, printing
from fedbus.operator.asking import Ask, command, pairs
from fedbus.operator.printing import Output
from fedbus.operator.watching import live

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]
Follow = Annotated[bool, typer.Option("--watch", "-w", help="Stay and watch it to its end.")]
Several = list[str] | None


@command(app, "start")
def start(
    ask: Ask,
    name: Annotated[str, typer.Option("--name", help="A name for people.")] = "",
    session: Annotated[
        str | None, typer.Option("--id", help="An id of your own; then it may be sent again.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Start from this model, by the beginning of its SHA-256."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="How many rounds.")] = 5,
    round_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds from a round's opening to its deadline.")
    ] = 180.0,
    minimum: Annotated[
        int, typer.Option(min=1, help="Valid updates without which a round does not count.")
    ] = 1,
    invited: Annotated[
        int | None, typer.Option(min=1, help="Clients asked in each round; unset = all online.")
    ] = None,
    target: Annotated[
        int | None, typer.Option(min=1, help="Close a round at so many updates; unset = all.")
    ] = None,
    aggregator: Annotated[
        str, typer.Option("--aggregator", "-a", help="The rule; see fedbus aggregator list.")
    ] = "fedavg",
    aggregator_parameter: Annotated[
        Several, typer.Option("--aggregator-parameter", "-p", help="NAME=VALUE; repeatable.")
    ] = None,
    train: Annotated[
        Several, typer.Option(help="NAME=VALUE for the clients' train function; repeatable.")
    ] = None,
    client: Annotated[
        Several, typer.Option(help="Ask only this client, by name or pseudonym; repeatable.")
    ] = None,
    where: Annotated[str, typer.Option(help="Ask only such clients, as 'site=eu,gpu>=1'.")] = "",
    package: Annotated[
        str | None, typer.Option(help="Pin this package, by the beginning of its SHA-256.")
    ] = None,
    settings: Annotated[
        Several,
        typer.Option("--set", help="NAME=VALUE, any setting of docs/settings.md; repeatable."),
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate/--no-validate", help="Validate each new model.")
    ] = True,
    delete_updates: Annotated[
        bool, typer.Option("--delete-updates", help="Delete updates after each round.")
    ] = False,
    watch: Follow = False,
) -> None:
    """Start a session, and return when a controller has decided it.

    Example: fedbus session start --rounds 10 --minimum 3 -a fedavgm -p momentum=0.9 --train lr=0.05 --watch
    """
    more = _values(settings, "--set")
    if client or where:
        more["clients"] = _query(ask, client or [], where)
    if package is not None:
        more["package"] = naming.package(ask.api, package)
    if train:
        more["train"] = _values(train, "--train")
    begin: Callable[..., SessionView] = ask.api.start_session
    if twice := more.keys() & inspect.signature(begin).parameters.keys():
        raise BadOption(f"--set {min(twice)}: there is an option for it")
    view = begin(
        name,
        aggregator,
        _values(aggregator_parameter, "--aggregator-parameter"),
        None if model is None else naming.model(ask.api, model),
        round_timeout,
        rounds,
        -1 if target is None else target,
        delete_models=delete_updates,
        validate=validate,
        min_clients=minimum,
        requested_clients=invited,
        session_id=session,
        **more,
    )
    if watch:
        _watch(ask, view.session, 0)
        return
    ask.done(
        view, f"{view.session} has started; watch it with: fedbus session watch {view.session}"
    )


@command(app, "get")
def get(ask: Ask, session: Name) -> None:
    """Show a session.

    Example: fedbus session get digits-1 -o json
    """
    ask.show(ask.api.get_session(session))


@command(app, "continue")
def go_on(
    ask: Ask,
    session: Name,
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="How many rounds more.")] = 5,
    round_timeout: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds of each; unset = as before.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="A key of your own; with it the same may be sent again.")
    ] = None,
    watch: Follow = False,
) -> None:
    """Add rounds, also to a session that has completed.

    Example: fedbus session continue digits-1 --rounds 5 --watch
    """
    before = ask.api.get_session(session).number
    view = ask.api.continue_session(session, rounds, round_timeout, idempotency_key=key)
    if watch:
        _watch(ask, session, _sequence(ask, session, before))
        return
    ask.done(
        view, f"{session} has {view.rounds_total} rounds now, {view.rounds_completed} are done"
    )


@command(app, "pause")
def pause(ask: Ask, session: Name) -> None:
    """Open no further round; the open one is finished first.

    Example: fedbus session pause digits-1
    """
    view = ask.api.pause_session(session)
    ask.done(view, f"{session} is {view.phase}")


@command(app, "resume")
def resume(ask: Ask, session: Name) -> None:
    """Go on after a pause.

    Example: fedbus session resume digits-1
    """
    view = ask.api.resume_session(session)
    ask.done(view, f"{session} is {view.phase}")


@command(app, "stop")
def stop(
    ask: Ask,
    session: Name,
    reason: Annotated[
        str, typer.Option(help="Why; it stands in the log.")
    ] = "stopped by an operator",
) -> None:
    """End a session now; its open round is given up.

    Example: fedbus session stop digits-1 --reason "wrong seed"
    """
    ask.done(ask.api.stop_session(session, reason), f"{session} is stopped")


@command(app, "archive")
def archive(ask: Ask, session: Name) -> None:
    """Close a session that has ended, for good: its updates are deleted, its log and models stay.

    Example: fedbus session archive digits-1
    """
    ask.done(ask.api.archive_session(session), f"{session} is archived: its updates are deleted")


@command(app, "runs")
def runs(ask: Ask, session: Name) -> None:
    """List the runs: the rounds that a start or an extension asked for.

    Example: fedbus session runs digits-1
    """
    columns = ("run", "rounds", "first_round", "last_round", "outcome", "started", "model")
    ask.rows(ask.api.get_runs(session, sort="run"), columns)


@command(app, "log")
def log(
    ask: Ask,
    session: Name,
    of_type: Annotated[
        str, typer.Option("--type", help="Only of this type, as round.opened.v1.")
    ] = "",
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", min=1, help="How many at most.")
    ] = None,
) -> None:
    """List what a session's log says, the oldest first: every decision, as it was stored.

    Example: fedbus session log digits-1 --type round.completed.v1 -o json
    """
    found = ask.api.get_statuses(session, of_type or None, limit)
    ask.rows(found, ("number", "sequence", "time", "type", "data"))


@command(app, "watch")
def watch(
    ask: Ask,
    session: Name,
    after: Annotated[int, typer.Option(min=0, help="Begin after this sequence of the log.")] = 0,
) -> None:
    """Watch a session to its end, live on a terminal, else a line an event; ends with 10 if it fails.

    Example: fedbus session watch digits-1
    """
    _watch(ask, session, after)


@command(app, "compare")
def compare(
    ask: Ask,
    first: Annotated[str, typer.Argument(help="A session.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
) -> None:
    """Put two sessions beside each other: settings in which they differ, and their rounds.

    Example: fedbus session compare digits-1 digits-2
    """
    view = ask.api.compare_sessions(first, second)
    if ask.output is not Output.HUMAN:
        ask.show(view)
        return
    print(f"the same start: {view.same_start}; the same result: {view.same_result}\n")
    ask.rows(view.settings, ("setting", "first", "second"))
    print()
    sides = ("outcome", "counted", "duration_s", "metrics", "model")
    ask.rows(
        view.rounds, ("number", *(f"{side}.{one}" for side in ("first", "second") for one in sides))
    )


def _watch(ask: Ask, session: str, after: int) -> None:
    view = ask.api.get_session(session)
    events = ask.api.watch(session, after=after)
    if ask.output is Output.HUMAN:
        view = live(ask.api, view, events)
    else:
        for event in events:
            printing.line(event, ask.output)
        view = ask.api.get_session(session)
    if view.phase != "completed":
        raise typer.Exit(ENDED_BADLY)


def _sequence(ask: Ask, session: str, number: int) -> int:
    """Give the sequence of a log's entry by its number in the session."""
    found: list[LoggedEvent] = ask.api.get_status(session, number)
    return found[-1].sequence


def _query(ask: Ask, clients: list[str], where: str) -> JsonValue:
    try:
        conditions = parse_conditions(where) if where else ()
    except BadQuery as error:
        raise BadOption(f"--where: {error}") from error
    ids = [one for name in clients for one in naming.clients(ask.api, name)]
    found: JsonValue = {
        "ids": [*ids],
        "where": [one.model_dump(mode="json") for one in conditions],
    }
    return found


def _values(given: Several, flag: str) -> dict[str, JsonValue]:
    """Read `NAME=VALUE`s; a value is JSON, or a text as it stands."""
    return {name: _value(text) for name, text in pairs(given or (), flag)}


def _value(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except ValueError:
        return text
    return value
