"""The servers of a running stack, seen from inside."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fedbus_local import keys as secret_files
from fedbus_local.servers import BUCKET, REGION
from fedbus_local.stack import LocalStack
from fedbus_runtime.nats_bus import NatsBus
from fedbus_runtime.nats_connection import NatsOptions
from fedbus_runtime.s3_blobs import S3Blobs
from fedbus_runtime.s3_signing import S3Place
from fedbus_runtime.system_clock import SystemClock


@asynccontextmanager
async def bus_of(stack: LocalStack, role: str) -> AsyncIterator[NatsBus]:
    """Join the bus as a service would."""
    seed, token = (secret_files.read(stack.layout, f"{role}.{kind}") for kind in ("nk", "jwt"))
    options = NatsOptions(urls=(stack.nats_url,), name="test", seed=seed, token=token)
    bus = await NatsBus.connect(options)
    yield bus
    await bus.close()


@asynccontextmanager
async def store_of(stack: LocalStack) -> AsyncIterator[S3Blobs]:
    """Open the stack's object store."""
    place = S3Place(
        endpoint=f"http://{stack.plan.here}:{stack.plan.ports['s3']}",
        bucket=BUCKET,
        access_key=secret_files.read(stack.layout, "s3.access"),
        secret_key=secret_files.read(stack.layout, "s3.secret"),
        region=REGION,
    )
    blobs = S3Blobs(place, SystemClock())
    yield blobs
    await blobs.close()
