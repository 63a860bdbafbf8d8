"""Commands: run, list, show, wait, end; and what the clients answered."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response
from fastapi.responses import StreamingResponse
from fedbus_schemas import keys
from fedbus_schemas.codec import digest
from fedbus_schemas.command_views import (
    CommandList,
    CommandResults,
    CommandView,
    NewCommand,
    StopCommandRequest,
)
from fedbus_schemas.commands import RESULT_BYTES_MAX, RunCommand, StepCommand, StopCommand
from fedbus_schemas.ids import CommandId
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import RefusalCode

from fedbus_api.problems import Problem
from fedbus_api.routes.parameters import Client, IdempotencyKey, Limit, Project
from fedbus_api.wiring import Parts

WAIT_S_MAX = 60.0
ID_BYTES = 5
LIST_DEFAULT = 50

router = APIRouter(prefix="/v1/commands", tags=["commands"])

Command = Annotated[CommandId, Path(description="The command's id.")]
Wait = Annotated[
    float, Query(ge=0, le=WAIT_S_MAX, description="Answer once it has ended, or after so long.")
]
Parent = Annotated[CommandId | None, Query(description="Only the children of this command.")]
Roots = Annotated[bool, Query(description="Only commands without a parent.")]

_EXAMPLE = {
    "task": "inference",
    "model": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "parameters": {"threshold": 0.5},
    "timeout_s": 60,
}


@router.post("", status_code=201, summary="Run a command")
async def run(
    api: Parts,
    response: Response,
    new: Annotated[NewCommand, Body(examples=[_EXAMPLE])],
    project: Project = "default",
    idempotency_key: IdempotencyKey = None,
) -> CommandView:
    """Ask clients for work: inference, validate, stage_model or custom:NAME."""
    model = None
    if new.model is not None:
        ref = await api.catalog.ref(project, new.model)
        if ref is None:
            raise Problem(RefusalCode.NOT_FOUND, f"model {new.model}: upload it first")
        model = BlobRef(digest=ref.digest, size=ref.size)
    made_up = digest(idempotency_key.encode()) if idempotency_key else secrets.token_hex(ID_BYTES)
    command = new.command or f"k-{made_up[: 2 * ID_BYTES]}"
    correlation = new.correlation
    if correlation is None and new.parent is not None:
        correlation = (await api.tree.known(project, new.parent)).created.correlation
    order = RunCommand(
        command=command,
        task=new.task,
        parameters=new.parameters,
        model=model,
        clients=new.clients,
        timeout_s=new.timeout_s,
        correlation=correlation,
        parent=new.parent,
    )
    response.headers["Location"] = f"/v1/commands/{command}?project={project}"
    return await api.tree.run(project, order)


@router.get("", summary="List the commands")
async def commands(
    api: Parts,
    project: Project = "default",
    parent: Parent = None,
    roots: Roots = False,
    limit: Limit = LIST_DEFAULT,
) -> CommandList:
    """List the commands, the newest first: all, the roots, or the children of one."""
    return await api.tree.commands(project, parent, roots=roots, limit=limit)


@router.get("/{command}", summary="Show a command")
async def show(
    api: Parts, command: Command, project: Project = "default", wait_s: Wait = 0.0
) -> CommandView:
    """Show a command; with `wait_s`, once it has ended or that time is over."""
    return await api.tree.show(project, command, wait_s)


@router.post("/{command}/step", summary="Skip on")
async def step(api: Parts, command: Command, project: Project = "default") -> CommandView:
    """End the command now with the results that there are."""
    return await api.tree.end(project, command, StepCommand())


@router.post("/{command}/stop", summary="Stop a command")
async def stop(
    api: Parts,
    command: Command,
    request: StopCommandRequest | None = None,
    project: Project = "default",
) -> CommandView:
    """End the command now; its clients' functions are told."""
    reason = (request or StopCommandRequest()).reason
    return await api.tree.end(project, command, StopCommand(reason=reason))


@router.get("/{command}/results", summary="List what the clients answered")
async def results(api: Parts, command: Command, project: Project = "default") -> CommandResults:
    """Give every client's part: where it stands, and its result."""
    state = await api.tree.known(project, command)
    return CommandResults(items=tuple(await api.tree.parts(state)))


@router.get(
    "/{command}/results/{client}", summary="Get one result", response_class=StreamingResponse
)
async def result(
    api: Parts, command: Command, client: Client, project: Project = "default"
) -> Response:
    """Give one client's result as JSON, also a large one."""
    state = await api.tree.known(project, command)
    found = [one for one in await api.tree.parts(state) if one.client == client]
    if not found or (found[0].value is None and found[0].blob is None):
        raise Problem(RefusalCode.NOT_FOUND, f"command {command} has no result of {client}")
    [part] = found
    if part.value is not None:
        return Response(part.value, media_type="application/json")
    assert part.blob is not None
    key = keys.result(project, client, part.blob.digest)
    content = await api.ports.blobs.get(key, min(part.blob.size, RESULT_BYTES_MAX))
    return Response(bytes(content), media_type="application/json")
