"""Devices: join tokens, enrolment, revocation."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Response
from fedbus_schemas.device_views import (
    DeviceView,
    EnrolledView,
    EnrolRequest,
    JoinView,
    MadeJoinView,
    NewJoin,
    RenewRequest,
    RevokedView,
    RevokeRequest,
)
from fedbus_schemas.devices import JoinId
from fedbus_schemas.ids import DeviceKey
from fedbus_schemas.views import Page

from fedbus_api.access.identity import Caller
from fedbus_api.lists import DEVICES, JOINS
from fedbus_api.routes.files import made
from fedbus_api.routes.parameters import AskedList, Project, page
from fedbus_api.wiring import Parts

Join = Annotated[JoinId, Path(description="The join token's id.")]
Device = Annotated[DeviceKey, Path(description="The device's public key.")]

router = APIRouter(prefix="/v1", tags=["devices"])

_EXAMPLE = {"uses": 20, "labels": ["site=lund"], "lifetime_s": 86400}


@router.post("/join-tokens", status_code=201, summary="Make a join token")
async def make_join(
    api: Parts,
    caller: Caller,
    response: Response,
    new: Annotated[NewJoin, Body(examples=[_EXAMPLE])],
    project: Project = "default",
) -> MadeJoinView:
    """Make a token with which so many devices may enrol. Its `bearer` is shown this once."""
    view = await api.enrolling.make_join(project, new, caller)
    made(response, f"/v1/join-tokens/{view.join}?project={project}", is_new=True)
    response.headers["Cache-Control"] = "no-store"
    return view


@router.get("/join-tokens", summary="List the join tokens", openapi_extra=JOINS.parameters())
async def joins(api: Parts, asked: AskedList, project: Project = "default") -> Page[JoinView]:
    """List the join tokens without their secrets, the newest first."""
    return page(JOINS.page(await api.enrolling.joins(project), asked, project))


@router.delete("/join-tokens/{join}", summary="Revoke a join token")
async def revoke_join(api: Parts, join: Join, project: Project = "default") -> JoinView:
    """Let nobody else in by it. Devices that came with it stay: revoke them by a label of theirs."""
    return await api.enrolling.revoke_join(project, join)


@router.post("/enrol", summary="Enrol a device")
async def enrol(
    api: Parts, response: Response, request: Annotated[EnrolRequest, Body()]
) -> EnrolledView:
    """Let a device in that proves its key and has a join token. Sent again, it gets another token."""
    response.headers["Cache-Control"] = "no-store"
    return await api.enrolling.enrol(request)


@router.post("/enrol/renew", summary="Renew a device's token")
async def renew(
    api: Parts, response: Response, request: Annotated[RenewRequest, Body()]
) -> EnrolledView:
    """Give a device whose token has ended the next one, by its key alone."""
    response.headers["Cache-Control"] = "no-store"
    return await api.enrolling.renew(request)


@router.get("/devices", summary="List the devices", openapi_extra=DEVICES.parameters())
async def devices(api: Parts, asked: AskedList, project: Project = "default") -> Page[DeviceView]:
    """List the devices that enrolled or were revoked, those that enrolled last first."""
    return page(DEVICES.page(await api.enrolling.devices(project), asked, project))


@router.delete("/devices/{device}", summary="Revoke a device")
async def revoke(
    api: Parts, caller: Caller, device: Device, project: Project = "default"
) -> DeviceView:
    """Shut a device out: its connection is cut within a second, and it cannot come back with this key."""
    return await api.enrolling.revoke(project, device, caller)


@router.post("/devices/revoke", summary="Revoke devices by a label")
async def revoke_label(
    api: Parts,
    caller: Caller,
    request: Annotated[RevokeRequest, Body(examples=[{"label": "site=lund"}])],
    project: Project = "default",
) -> RevokedView:
    """Shut out every device with a label."""
    found = await api.enrolling.revoke_label(project, request.label, caller)
    return RevokedView(devices=tuple(found))
