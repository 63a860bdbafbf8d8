"""`fedbus up | down | status | logs | scale | restart`: the local stack's commands.

Exit codes: 0 done (status: all healthy), 1 not all healthy or another error, 2 wrong usage, 3 not running,
4 a port is in use, 5 the disk is nearly full, 6 something did not become healthy, 7 the directory is unusable.
"""

import json
from typing import Annotated

import typer

from fedbus_local import control, daemon, ports, views
from fedbus_local.errors import LocalError
from fedbus_local.journal import Entry, read
from fedbus_local.options import (
    DEFAULT_DIRECTORY,
    As,
    Directory,
    Output,
    complaints,
    console,
    reporting_errors,
)
from fedbus_local.plan import INSTANCES_MAX, Wishes
from fedbus_local.reports import StackReport, State
from fedbus_local.stack import LocalStack

app = typer.Typer(no_args_is_help=True, help="The local stack.")

PortOption = Annotated[int | None, typer.Option(min=1, max=65535)]
CountOption = Annotated[int | None, typer.Option(min=0, max=INSTANCES_MAX)]


@app.command()
def up(
    directory: Directory = DEFAULT_DIRECTORY,
    controllers: CountOption = None,
    combiners: CountOption = None,
    nats_port: PortOption = None,
    websocket_port: PortOption = None,
    redis_port: PortOption = None,
    s3_port: PortOption = None,
    api_port: PortOption = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Listen here for clients; 0.0.0.0 lets other machines in. Usually 127.0.0.1."
        ),
    ] = None,
    public_host: Annotated[
        str | None, typer.Option(help="The address by which other machines reach this one.")
    ] = None,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="Start NATS, Redis and the store, no services.")
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, print the log, stop at Ctrl-C.")
    ] = False,
    output: As = Output.HUMAN,
) -> None:
    """Start the stack and return when all of it is healthy. What is not said stays as it was last time.

    Example: fedbus up --combiners 4
    """
    given = {
        "nats": nats_port,
        "websocket": websocket_port,
        "redis": redis_port,
        "s3": s3_port,
        "api": api_port,
    }
    wishes = Wishes(
        host=host,
        public_host=public_host,
        controllers=controllers,
        combiners=combiners,
        services=not servers_only,
        ports={name: port for name, port in given.items() if port is not None},
        usual_ports=True,
    )
    stack = LocalStack(directory, wishes=wishes, tied=False)
    with reporting_errors():
        if foreground:
            _stay(stack, output)
            return
        _announce(stack, output)
        try:
            started = stack.start(progress=_Progress() if output is Output.HUMAN else None)
        except KeyboardInterrupt:
            complaints.print("interrupted; the stack is stopped again")
            raise typer.Exit(130) from None
        _show_up(stack, output, started=started)


@app.command()
def down(directory: Directory = DEFAULT_DIRECTORY, output: As = Output.HUMAN) -> None:
    """Stop the stack, services first, and say what was done. Data stays.

    Example: fedbus down
    """
    ended: list[dict[str, str]] = []

    def told(name: str, how: str) -> None:
        ended.append({"name": name, "how": how})
        if output is Output.HUMAN:
            console.print(f"{name:<{views.NAME_WIDTH}} {how}")

    with reporting_errors():
        stack = LocalStack(directory)
        was_running = stack.stop(told)
    if output is Output.JSON:
        console.print_json(json.dumps({"was_running": was_running, "processes": ended}))
    elif was_running:
        console.print(f"Stopped. Data stays in {stack.layout.root}; fedbus up goes on with it.")
    else:
        console.print(f"Nothing is running in {stack.layout.root}.")


@app.command()
def status(directory: Directory = DEFAULT_DIRECTORY, output: As = Output.HUMAN) -> None:
    """Ask every process for its health. Ends with 0 only if all of them are healthy, 3 if none runs.

    Example: fedbus status -o json
    """
    with reporting_errors():
        report = LocalStack(directory).status()
    if output is Output.JSON:
        console.print_json(
            json.dumps({**report.model_dump(mode="json"), "healthy": report.healthy})
        )
    else:
        views.status(console, report)
    raise typer.Exit(0 if report.healthy else 1)


@app.command()
def logs(
    directory: Directory = DEFAULT_DIRECTORY,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as lines are written.")
    ] = False,
    service: Annotated[str | None, typer.Option(help="Only this process, as combiner-1.")] = None,
    count: Annotated[int, typer.Option("-n", min=0, help="So many of the last lines.")] = 200,
    output: As = Output.HUMAN,
) -> None:
    """Print the one log of all processes, in the order in which lines were written.

    Example: fedbus logs -f --service combiner-1
    """
    stack = LocalStack(directory)

    def show(each: Entry) -> None:
        if service is not None and each["process"] != service:
            return
        if output is Output.JSON:
            typer.echo(views.entry_json(each))
        else:
            console.print(views.entry(each))

    with reporting_errors():
        for each in read(stack.layout.logs, count, service):
            show(each)
        if follow:
            try:
                for content in control.ask(stack.layout, "follow", timeout_s=None):
                    show({key: str(value) for key, value in content.items()})
            except KeyboardInterrupt:
                raise typer.Exit(0) from None


@app.command()
def scale(
    controllers: CountOption = None,
    combiners: CountOption = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Start or stop services of the running stack until there are so many.

    Example: fedbus scale --combiners 4
    """
    stack = LocalStack(directory)
    with reporting_errors():
        done = stack.scale(controllers=controllers, combiners=combiners)
        for line in done or ["nothing to do"]:
            console.print(line)
        stack.wait_healthy()


@app.command()
def restart(name: str, directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Stop one process and start it again; return when it is healthy.

    Example: fedbus restart combiner-1
    """
    with reporting_errors():
        LocalStack(directory).restart(name)
    console.print(f"{name} is healthy again")


class _Progress:
    """Prints each process once, as it becomes healthy."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, report: StackReport) -> None:
        for each in report.processes:
            if each.state is State.HEALTHY and each.name not in self._seen:
                self._seen.add(each.name)
                console.print(
                    f"  {len(self._seen):>2}/{report.expected} {each.name:<{views.NAME_WIDTH}} healthy "
                    f"after {each.uptime_s:.1f} s, port {each.port}"
                )


def _announce(stack: LocalStack, output: Output) -> None:
    if output is Output.JSON or stack.running:
        return
    first = "" if stack.layout.plan.exists() else "First start: usually under ten seconds. "
    console.print(f"{first}Data, keys and logs lie in {stack.layout.root}")


def _show_up(stack: LocalStack, output: Output, *, started: bool) -> None:
    report = stack.status()
    if output is Output.JSON:
        content = {
            **report.model_dump(mode="json"),
            "healthy": report.healthy,
            "started": started,
            "api_token_file": str(stack.layout.keys / "api.token"),
        }
        console.print_json(json.dumps(content))
        return
    console.print("The stack is up." if started else f"Already running in {report.directory}.")
    if not report.healthy:
        console.print("[yellow]Not all of it is healthy; see: fedbus status[/]")
    for label, url in (("api", report.api_url), ("nats", report.nats_url), ("s3", report.s3_url)):
        if url is not None:
            console.print(f"  {label:<5} {url}")
    console.print(f"  token {stack.layout.keys / 'api.token'}")
    if not ports.is_loopback(stack.plan.host):
        console.print(
            f"[yellow]Listening on {stack.plan.host} without TLS: use it in a trusted network only.[/]"
        )
    console.print("Next: fedbus client add site-1 · fedbus status · fedbus logs -f · fedbus down")


def _stay(stack: LocalStack, output: Output) -> None:
    stack.layout.make()
    if stack.running:
        raise LocalError(f"the stack already runs in {stack.layout.root}")
    _announce(stack, output)
    stack.settle()

    def echo(each: Entry) -> None:
        if output is Output.JSON:
            typer.echo(views.entry_json(each))
        else:
            console.print(views.entry(each))

    daemon.run(stack.layout, ready=lambda: None, echo=echo)
