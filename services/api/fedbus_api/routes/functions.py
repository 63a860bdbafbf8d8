"""Server functions: store a source, show it."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from fedbus_core.aggregation.server_functions import SOURCE_BYTES_MAX
from fedbus_schemas.sessions import ServerFunctions

from fedbus_api.bodies import receive
from fedbus_api.routes.files import BODY
from fedbus_api.routes.parameters import Digest, Project
from fedbus_api.wiring import Parts

router = APIRouter(prefix="/v1/server-functions", tags=["server functions"])


@router.post("", status_code=201, summary="Store server functions", openapi_extra=BODY)
async def keep(api: Parts, request: Request, project: Project = "default") -> ServerFunctions:
    """Store the source of a class `ServerFunctions`; the answer is what a session takes as `functions`.

    It is looked at, not run. Storing the same source again gives the same answer.
    """
    source = await receive(request.stream(), SOURCE_BYTES_MAX, "source", "SOURCE_BYTES_MAX")
    return await api.functions.keep(project, bytes(source))


@router.get("/{digest}", summary="Show server functions", response_class=PlainTextResponse)
async def show(api: Parts, digest: Digest, project: Project = "default") -> Response:
    """Send a stored source."""
    return PlainTextResponse(
        await api.functions.source(project, digest), headers={"ETag": f'"{digest}"'}
    )
