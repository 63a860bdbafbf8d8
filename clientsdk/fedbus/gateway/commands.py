"""`fedbus client start` and `install`: a client from its configuration file, and as a service."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from fedbus._functions import find_function
from fedbus.client import Client, run_until_signal
from fedbus.consent import policyfile
from fedbus.credentials import load as load_credentials
from fedbus.errors import BadOption
from fedbus.gateway import install as installing
from fedbus.gateway import notify
from fedbus.gateway.configuration import STATE, Code, Configuration, load
from fedbus.packages.host import LocalPackage, PackageHost
from fedbus.packages.manifest import demand_yaml
from fedbus.trainer import Packages, Trainer, TrainFunction, ValidateFunction

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def start(
    config: Annotated[
        Path | None, typer.Option(help="The configuration file; the other options go before it.")
    ] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="The credentials file, of mode 0600.")
    ] = None,
    local_package: Annotated[
        Path | None,
        typer.Option(help="Run this folder in every session, for development.", file_okay=False),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help=f"Keeps updates and packages; {STATE} if nothing says else.")
    ] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="Keeps fetched models.")] = None,
    alive_file: Annotated[
        Path | None, typer.Option(help="Touched at every heartbeat; see fedbus client healthy.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="The data owner's policy file.")] = None,
    timeout_s: Annotated[
        float | None, typer.Option(min=1, help="How long one run of a package may take.")
    ] = None,
    memory_mib: Annotated[
        int | None, typer.Option(min=16, help="The memory of one run, in MiB.")
    ] = None,
) -> None:
    """Run a client until Ctrl-C or SIGTERM: the package of each session, or what its configuration says.

    As a service it tells systemd that it is ready and alive. Exit code 2: the configuration cannot be right.
    With `--local-package client` it runs that folder instead, and takes up what you change in it.

    Example: fedbus client start --config /etc/fedbus/site-1/client.toml
    """
    code = {"local_package": local_package, "timeout_s": timeout_s, "memory_mib": memory_mib}
    options = {
        "state_dir": state_dir,
        "cache_dir": cache_dir,
        "alive_file": alive_file,
        "policy": policy,
    }
    found = Configuration() if config is None else load(config)
    client = client_of(_with(found, credentials, code, options))
    run_until_signal(client, notify.telling(client), found.log.level)


def install(
    name: Annotated[str, typer.Argument(help="The service's name: fedbus-client@NAME.")],
    credentials: Annotated[
        Path, typer.Option(help="What `fedbus client add` wrote; it is copied.")
    ],
    policy: Annotated[
        Path | None, typer.Option(help="The data owner's policy file; it is copied.")
    ] = None,
    local_package: Annotated[
        Path | None, typer.Option(help="The folder of this site's own package.", file_okay=False)
    ] = None,
    train: Annotated[str, typer.Option(help="This site's train function, module:function.")] = "",
    validate: Annotated[str, typer.Option(help="Its validate function, if any.")] = "",
    python_path: Annotated[
        Path | None, typer.Option(help="The folder of that module.", file_okay=False)
    ] = None,
    program: Annotated[str, typer.Option(help="The `fedbus` to run.")] = installing.PROGRAM,
    root: Annotated[Path, typer.Option(help="Write below this folder, as into an image.")] = Path(
        "/"
    ),
    force: Annotated[
        bool, typer.Option("--force", help="Replace this client's configuration.")
    ] = False,
) -> None:
    """Write a client's configuration, its credentials and policy, and the unit of systemd. Starts nothing.

    Example: sudo fedbus client install site-1 --credentials site-1.json --policy policy.toml
    """
    if not NAME.fullmatch(name):
        raise BadOption(f"{name!r} is no service's name: a-z, 0-9 and dashes, at most 32")
    load_credentials(credentials)
    if policy is not None:
        policyfile.load(policy)
    code = Code.model_validate(
        {
            "local_package": local_package and local_package.absolute(),
            "train": train,
            "validate": validate,
            "python_path": python_path and python_path.absolute(),
        }
    )
    wanted = installing.Wanted(
        name=name,
        credentials=credentials.read_bytes(),
        policy=None if policy is None else policy.read_bytes(),
        code=tuple(code.model_dump(mode="json", by_alias=True, exclude_defaults=True).items()),
        program=program,
    )
    made = installing.files(wanted)
    installing.write(root, made, force=force)
    for file in made:
        print(root / file.place)
    print("\nto start it now and at every boot:")
    print("  systemd-sysusers && systemctl daemon-reload")
    print(f"  systemctl enable --now fedbus-client@{name}")


def client_of(found: Configuration) -> Client:
    """Make the client that a configuration describes. Raises `ConfigurationError`."""
    return Client(_code(found), found.made())


def _code(found: Configuration) -> Packages | Trainer:
    code, place = found.code, found.state_dir / "compute"
    if code.train:
        if code.python_path is not None:
            sys.path.insert(0, str(code.python_path))
        try:
            functions = [find_function(name) for name in (code.train, code.validate_by) if name]
        except typer.BadParameter as error:
            raise BadOption(f"[code]: {error}") from error
        train, validate = functions[0], functions[1] if len(functions) > 1 else None
        return Trainer(cast(TrainFunction, train), cast(ValidateFunction | None, validate))
    demand_yaml()  # now, and not at the first task
    if code.local_package is not None:
        return LocalPackage(code.local_package.absolute(), place, run_limits=code.limits)
    return PackageHost(place, run_limits=code.limits)


def _with(
    found: Configuration, credentials: Path | None, code: dict[str, Any], options: dict[str, Any]
) -> Configuration:
    """Put what the command line says before what the file says."""
    said = {name: value for name, value in code.items() if value is not None}
    if "local_package" in said and found.code.train:
        raise BadOption("--local-package: the configuration names a train function")
    update: dict[str, Any] = {
        "code": found.code.model_copy(update=said),
        "options": {
            "state_dir": STATE,
            **found.options,
            **{name: value for name, value in options.items() if value is not None},
        },
    }
    if credentials is not None:
        update["credentials"] = credentials
    return found.model_copy(update=update)
