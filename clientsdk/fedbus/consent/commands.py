"""`fedbus policy check` and `explain`, `fedbus client log`: what an owner asks of a policy and of the log."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from fedbus.consent.policy import LOCAL, Allowed, Denied, Package, Policy, Request, decide
from fedbus.consent.policyfile import load
from fedbus.consent.tasklog import NAME, Line, read_lines
from fedbus.errors import BadOption

KINDS = ("train", "validate", "inference", "stage_model", "restart", "split_learning", "custom")

policy = typer.Typer(no_args_is_help=True, help="The data owner's policy file (docs/consent.md).")
client = typer.Typer(no_args_is_help=True, help="What a client was asked.")


@policy.command("check")
def check_policy(
    file: Annotated[Path, typer.Argument(help="The policy file.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all of it, with defaults.")
    ] = False,
) -> None:
    """Read a policy as a client would: every fault with its line and what to write there.

    Example: fedbus policy check policy.toml
    """
    found = load(file)
    if as_json:
        print(json.dumps(found.model_dump(mode="json", by_alias=True), indent=2))
    else:
        print(f"{file}: a policy. Without a word more about the task it says:")
        _print_kinds(found)


@policy.command("explain")
def explain_policy(
    file: Annotated[Path, typer.Argument(help="The policy file.")],
    task: Annotated[str, typer.Option(help=f"{', '.join(KINDS)}:NAME; none = all kinds.")] = "",
    project: Annotated[str, typer.Option(help="The project.")] = "demo",
    session: Annotated[str, typer.Option(help="The session's id.")] = "",
    session_name: Annotated[str, typer.Option(help="The session's name for people.")] = "",
    cohort: Annotated[int | None, typer.Option(help="How many clients are asked.")] = None,
    package: Annotated[
        str, typer.Option(help="The SHA-256 of a package that a server sends.")
    ] = "",
    signer: Annotated[list[str] | None, typer.Option(help="A key that signed it. Repeat.")] = None,
    no_local: Annotated[
        bool, typer.Option("--no-local-packages", help="The session asks for no local code.")
    ] = False,
    size: Annotated[int, typer.Option(help="Bytes that the task would send.")] = 0,
    sent: Annotated[int, typer.Option(help="Bytes that left today.")] = 0,
    at: Annotated[str, typer.Option(help="The local time, as 2026-11-24T22:00; none = now.")] = "",
) -> None:
    """Say whether a task would be done, or which rule declines it. Exit code 1 when it is declined.

    Example: fedbus policy explain policy.toml --task train
    """
    found = load(file)
    asked = Request(
        kind=task or KINDS[0],
        project=project,
        session=session,
        session_name=session_name,
        cohort=cohort,
        package=Package("remote", package, tuple(signer or ())) if package else LOCAL,
        local_refused=no_local,
        size=size,
        sent_bytes=sent,
        now=_time(at),
    )
    if not task:
        _print_kinds(found, asked)
        return
    verdict = decide(found, asked)
    print(_said(verdict))
    if isinstance(verdict, Denied):
        raise typer.Exit(1)


@client.command("log")
def show_log(
    state_dir: Annotated[Path, typer.Argument(help="The client's state folder.")],
    limit: Annotated[int, typer.Option(min=1, help="The newest so many lines.")] = 50,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the lines as they are kept.")
    ] = False,
) -> None:
    """Show what this site's clients were asked, what their policy said, and what left.

    Example: fedbus client log fedbus-state
    """
    logs = [state_dir / NAME, *sorted(state_dir.glob(f"*/{NAME}"))]
    lines = [line for log in logs for line in read_lines(log)]
    if not lines:
        raise BadOption(f"no task log in {state_dir}; a client keeps one in its state_dir")
    lines.sort(key=lambda line: datetime.fromisoformat(str(line["at"])))
    for line in lines[-limit:]:
        print(json.dumps(line, ensure_ascii=False) if as_json else _row(line))


def _print_kinds(found: Policy, asked: Request | None = None) -> None:
    for kind in KINDS:
        given = asked or Request(kind=kind, project="demo", cohort=2**31, now=_time(""))
        fields = {name: getattr(given, name) for name in Request.__dataclass_fields__}
        verdict = decide(found, Request(**(fields | {"kind": kind})))
        print(f"  {kind:<15} {_said(verdict)}")


def _said(verdict: Allowed | Denied) -> str:
    if isinstance(verdict, Denied):
        return f"declined by {verdict.rule}: {verdict.detail}"
    limits = verdict.limits.model_dump(exclude_none=True)
    told = ", ".join(f"{name} {value:g}" for name, value in limits.items())
    return f"allowed, within {told}" if told else "allowed"


def _row(line: Line) -> str:
    place = ".".join(str(line[name]) for name in ("round", "attempt") if name in line)
    head = f"{line['at']}  {line.get('task', ''):<10} {line.get('session', '-')} {place}".rstrip()
    match line.get("what"):
        case "asked":
            rule = f" by {line['rule']}: {line['detail']}" if "rule" in line else ""
            return f"{head}  {line['verdict']}{rule}"
        case "ended":
            return f"{head}  ended: {line['outcome']} after {line['seconds']} s"
        case "leaves":
            raw = line.get("keys")
            keys = ", ".join(raw) if isinstance(raw, list) else ""
            told = f"{line['bytes']} bytes, {line['records']} examples, metrics: {keys or 'none'}"
            return f"{head}  leaves: {told} ({str(line['digest'])[:12]}…)"
        case _:
            return head


def _time(text: str) -> datetime:
    try:
        given = datetime.fromisoformat(text) if text else datetime.now()  # noqa: DTZ005, TID251
    except ValueError as error:
        raise BadOption(f"{text!r} is no time; write it as 2026-11-24T22:00") from error
    return given.astimezone()
