"""Models: upload, list, show, ancestors, download."""

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fedbus_runtime.ports import Blobs
from fedbus_schemas import keys
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.models import ModelRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.trail_views import ParametersView
from fedbus_schemas.views import CountView, LineageView, ModelView, Page

from fedbus_api.inspecting import VALUES_MAX
from fedbus_api.lists import MODELS
from fedbus_api.problems import Problem
from fedbus_api.routes.files import BODY, CONTENT, MEDIA_TYPE, made
from fedbus_api.routes.parameters import (
    PAGE_DEFAULT,
    AskedList,
    Digest,
    Limit,
    Project,
    page,
)
from fedbus_api.trail import descendants, leaves
from fedbus_api.wiring import Parts

PIECE_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")

router = APIRouter(prefix="/v1/models", tags=["models"])

_FILE: dict[int | str, dict[str, object]] = {
    200: {
        "description": "The model as a safetensors file.",
        "content": CONTENT,
    },
    206: {"description": "The part that `Range` asked for."},
    304: {"description": "You have it already (`If-None-Match`)."},
}


@router.post(
    "",
    status_code=201,
    summary="Upload a model",
    openapi_extra=BODY,
    responses={200: {"model": ModelRef, "description": "It was there already."}},
)
async def upload(
    api: Parts,
    request: Request,
    response: Response,
    project: Project = "default",
    name: Annotated[str, Query(max_length=128, description="A name for people.")] = "",
) -> ModelRef:
    """Upload a safetensors file to start sessions from. Sent again, it gives the same answer."""
    view, model, is_new = await api.catalog.upload(project, request.stream(), name)
    made(response, f"/v1/models/{view.digest}?project={project}", is_new=is_new)
    return model


@router.get("", summary="List the models", openapi_extra=MODELS.parameters())
async def models(api: Parts, asked: AskedList, project: Project = "default") -> Page[ModelView]:
    """List uploaded models and those that rounds made, the newest first."""
    return page(MODELS.page(await api.catalog.models(project), asked, project))


@router.get("/count", summary="Count the models", openapi_extra=MODELS.parameters())
async def count(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the models that meet the filters."""
    return CountView(count=MODELS.count(await api.catalog.models(project), asked))


@router.get("/leaves", summary="List the last models", openapi_extra=MODELS.parameters())
async def last_models(
    api: Parts, asked: AskedList, project: Project = "default"
) -> Page[ModelView]:
    """List the models that nothing was made from: the ends of all trails."""
    found = leaves(await api.catalog.models(project))
    return page(MODELS.page(found, asked, f"{project} leaves"))


@router.get("/{digest}", summary="Show a model")
async def show(api: Parts, digest: Digest, project: Project = "default") -> ModelView:
    """Show a model."""
    found = await api.catalog.model(project, digest)
    if found is None:
        raise _unknown(project, digest)
    return found


@router.get("/{digest}/lineage", summary="Show a model's ancestors")
async def lineage(
    api: Parts, digest: Digest, project: Project = "default", limit: Limit = PAGE_DEFAULT
) -> LineageView:
    """Show a model and its ancestors, back to the one that was uploaded."""
    found = await api.catalog.lineage(project, digest, limit)
    if not found.items:
        raise _unknown(project, digest)
    return found


@router.get("/{digest}/parent", summary="Show what a model was made from")
async def parent(api: Parts, digest: Digest, project: Project = "default") -> ModelView:
    """Show the model that the round started from which made this one; 404 for an uploaded one."""
    model = await show(api, digest, project)
    if model.parent is None:
        raise Problem(RefusalCode.NOT_FOUND, f"model {digest} was uploaded: it has no parent")
    return await show(api, model.parent, project)


@router.get(
    "/{digest}/descendants",
    summary="List what was made from a model",
    openapi_extra=MODELS.parameters(),
)
async def made_from(
    api: Parts, digest: Digest, asked: AskedList, project: Project = "default"
) -> Page[ModelView]:
    """List all models that were made from this one, directly or through others, in any session."""
    await show(api, digest, project)
    found = descendants(await api.catalog.models(project), digest)
    return page(MODELS.page(found, asked, f"{project} {digest}"))


@router.get("/{digest}/parameters", summary="Show what is in a model")
async def parameters(
    api: Parts,
    digest: Digest,
    project: Project = "default",
    values: Annotated[
        bool, Query(description=f"Tell the weights too; of up to {VALUES_MAX} elements.")
    ] = False,
) -> ParametersView:
    """Show a model's tensors: names, shapes, element types, statistics, and if asked for, the weights."""
    model = await api.catalog.ref(project, digest)
    if model is None:
        raise _unknown(project, digest)
    return await api.inspector.parameters(project, model, values=values)


@router.get(
    "/{digest}/download",
    summary="Download a model",
    response_class=StreamingResponse,
    responses=_FILE,
)
async def download(
    api: Parts,
    digest: Digest,
    project: Project = "default",
    range_: Annotated[
        str | None, Header(alias="Range", description="One part: `bytes=first-last`.")
    ] = None,
    if_none_match: Annotated[
        str | None, Header(description="The digest you have, in quotes.")
    ] = None,
) -> Response:
    """Send a model's bytes; `ETag` is its digest. Parts are not checked on the way: check the whole."""
    key = keys.model(project, digest)
    size = await api.ports.blobs.size(key)
    if size is None:
        raise _unknown(project, digest)
    headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes", "Cache-Control": "immutable"}
    if if_none_match is not None and digest in if_none_match:
        return Response(status_code=304, headers=headers)
    if range_ is None:
        headers["Content-Length"] = str(size)
        return StreamingResponse(api.ports.blobs.stream(key), 200, headers, MEDIA_TYPE)
    first, last = _part(range_, size)
    headers |= {
        "Content-Length": str(last - first + 1),
        "Content-Range": f"bytes {first}-{last}/{size}",
    }
    pieces = _pieces(api.ports.blobs, key, first, last)
    return StreamingResponse(pieces, 206, headers, MEDIA_TYPE)


async def _pieces(blobs: Blobs, key: str, first: int, last: int) -> AsyncIterator[bytes]:
    for start in range(first, last + 1, PIECE_BYTES):
        yield await blobs.get_range(key, start, min(PIECE_BYTES, last + 1 - start))


def _part(text: str, size: int) -> tuple[int, int]:
    """Read a range of one part that begins with a number."""
    match = _RANGE.fullmatch(text.strip())
    first = int(match[1]) if match else size
    last = min(int(match[2]), size - 1) if match and match[2] else size - 1
    if first > last:
        headers = {"Content-Range": f"bytes */{size}"}
        detail = f"header.range: give bytes=first-last within 0..{size - 1}"
        raise Problem(RefusalCode.INVALID, detail, status=416, headers=headers)
    return first, last


def _unknown(project: ProjectId, digest: str) -> Problem:
    return Problem(RefusalCode.NOT_FOUND, f"model {digest} in project {project}")
