"""A device that joins, renews and is shut out, each step tried once: None or False means, try again."""

import asyncio
from pathlib import Path
from typing import Any, TypeAlias

import fedbus
import httpx
import nats.errors
from fedbus import _enrolment
from fedbus.errors import Refused
from fedbus_schemas.asks import RENEW

from tests.rogue import Rogue

Json: TypeAlias = Any


async def enrol(fed: Json, token: str, path: Path, name: str) -> Json:
    return await asyncio.to_thread(_enrolment.enrol, str(fed.http.base_url), token, path, name=name)


async def joined(fed: Json, token: str, path: Path) -> Json:
    try:
        return await enrol(fed, token, path, "a")
    except Refused:
        raise
    except fedbus.FedbusError:
        return None  # the same call again


async def connected(made: Json) -> Json:
    try:
        return await Rogue.connect(made)
    except (nats.errors.Error, OSError):
        return None


async def renewed(rogue: Rogue) -> bool:
    try:
        return (await rogue.ask(RENEW, b"{}")).minted is not None
    except nats.errors.Error:
        return False


async def revoked(fed: Json, device: str) -> bool:
    try:
        answer = await fed.http.delete(f"/v1/devices/{device}")
    except httpx.TransportError:
        return False
    return bool(answer.status_code == 200)


async def stays_out(made: Json) -> bool:
    try:
        await (await Rogue.connect(made)).nats.close()
    except (nats.errors.Error, OSError) as error:
        return "authorization" in str(error).lower()
    return False
