"""Compute packages: upload, list, show, download; and which one is active."""

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import StreamingResponse
from fedbus_schemas import keys
from fedbus_schemas.ids import Sha256
from fedbus_schemas.models import PackageSignature
from fedbus_schemas.views import (
    ActivateRequest,
    ChecksumView,
    CountView,
    FederationView,
    PackageView,
    Page,
)

from fedbus_api.lists import PACKAGES
from fedbus_api.routes.files import BODY, CONTENT, MEDIA_TYPE, made
from fedbus_api.routes.parameters import AskedList, Digest, Project, page
from fedbus_api.wiring import Parts

router = APIRouter(prefix="/v1/packages", tags=["packages"])

_FILE: dict[int | str, dict[str, object]] = {
    200: {"description": "The archive.", "content": CONTENT}
}


@router.post(
    "",
    status_code=201,
    summary="Upload a package",
    openapi_extra=BODY,
    responses={200: {"model": PackageView, "description": "It was there already."}},
)
async def upload(
    api: Parts,
    request: Request,
    response: Response,
    project: Project = "default",
    name: Annotated[str, Query(max_length=128, description="A name for people.")] = "",
    sha256: Annotated[
        Sha256 | None, Query(description="What the bytes must hash to; none = anything.")
    ] = None,
) -> PackageView:
    """Store an archive (tar.gz, tgz, tar.bz2, tar, zip) by its SHA-256. Storing it makes nobody run it."""
    view, is_new = await api.packages.upload(project, request.stream(), name, sha256)
    made(response, f"/v1/packages/{view.digest}?project={project}", is_new=is_new)
    return view


@router.get("", summary="List the packages", openapi_extra=PACKAGES.parameters())
async def packages(api: Parts, asked: AskedList, project: Project = "default") -> Page[PackageView]:
    """List the stored packages, the newest first."""
    return page(PACKAGES.page(await api.packages.packages(project), asked, project))


@router.get("/count", summary="Count the packages", openapi_extra=PACKAGES.parameters())
async def count(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the packages that meet the filters."""
    return CountView(count=PACKAGES.count(await api.packages.packages(project), asked))


@router.get("/active", summary="Show the active package")
async def active(api: Parts, project: Project = "default") -> PackageView:
    """Show the package that a new session pins."""
    return await api.packages.active(project)


@router.put("/active", summary="Activate a package")
async def activate(
    api: Parts, request: Annotated[ActivateRequest, Body()], project: Project = "default"
) -> FederationView:
    """Have new sessions pin this package. Refused once a session has used the active one."""
    return await api.packages.activate(project, request.package)


@router.delete("/active", summary="Deactivate the active package")
async def deactivate(api: Parts, project: Project = "default") -> FederationView:
    """Have new sessions pin none. Refused once a session has used the active one."""
    return await api.packages.deactivate(project)


@router.post("/{digest}/signatures", summary="Vouch for a package")
async def sign(
    api: Parts, digest: Sha256, signature: PackageSignature, project: Project = "default"
) -> PackageView:
    """Keep an Ed25519 signature over the archive's SHA-256. Clients run what their owner's policy lists."""
    return await api.packages.sign(project, digest, signature)


@router.get("/{digest}", summary="Show a package")
async def show(api: Parts, digest: Digest, project: Project = "default") -> PackageView:
    """Show a stored package."""
    return await api.packages.package(project, digest)


@router.get("/{digest}/checksum", summary="Show a package's SHA-256")
async def checksum(api: Parts, digest: Digest, project: Project = "default") -> ChecksumView:
    """Read the stored bytes and say what they hash to."""
    view = await api.packages.package(project, digest)
    await api.ports.blobs.get(keys.package(project, digest), view.size)
    return ChecksumView(sha256=digest)


@router.get(
    "/{digest}/download",
    summary="Download a package",
    response_class=StreamingResponse,
    responses=_FILE,
)
async def download(api: Parts, digest: Digest, project: Project = "default") -> Response:
    """Send a package's archive; `ETag` is its SHA-256: check it."""
    view = await api.packages.package(project, digest)
    headers = {
        "ETag": f'"{digest}"',
        "Content-Length": str(view.size),
        "Content-Disposition": f'attachment; filename="{digest[:12]}.{view.form}"',
    }
    return StreamingResponse(
        api.ports.blobs.stream(keys.package(project, digest)), 200, headers, MEDIA_TYPE
    )
