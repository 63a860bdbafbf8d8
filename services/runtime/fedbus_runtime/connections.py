"""What a service holds to the outside: the ports, over real servers, connected and tried out."""

import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Flag, auto

import structlog

from fedbus_runtime.errors import Away, SettingsFault
from fedbus_runtime.nats_bus import NatsBus
from fedbus_runtime.nats_connection import NatsOptions
from fedbus_runtime.pieced_blobs import PiecedBlobs
from fedbus_runtime.ports import (
    Blobs,
    Clock,
    Deliveries,
    Documents,
    Grants,
    Presence,
    RoundRecords,
    Streams,
    Transfers,
    Wire,
)
from fedbus_runtime.redis_records import (
    RedisConnection,
    RedisDocuments,
    RedisPresence,
    RedisRoundRecords,
    RedisTransfers,
)
from fedbus_runtime.s3_blobs import S3Blobs
from fedbus_runtime.s3_grants import S3Grants
from fedbus_runtime.s3_probe import probe
from fedbus_runtime.s3_signing import S3Place
from fedbus_runtime.settings import NatsSettings, S3Settings, ServiceSettings, read_secret
from fedbus_runtime.system_clock import SystemClock

RETRY_WAIT_FIRST_S = 0.2
RETRY_WAIT_MAX_S = 3.0

_log = structlog.get_logger(__name__)
_chance = random.SystemRandom()


class Needs(Flag):
    """Which servers a service waits for at its start; the bus is always one."""

    BUS = auto()
    RECORDS = auto()
    STORE = auto()
    ALL = BUS | RECORDS | STORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """The ports of one service."""

    streams: Streams
    deliveries: Deliveries
    wire: Wire
    blobs: Blobs
    grants: Grants
    records: RoundRecords
    presence: Presence
    documents: Documents
    transfers: Transfers
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The adapters behind a service's ports, for whoever opens and closes them."""

    bus: NatsBus
    redis: RedisConnection
    blobs: S3Blobs
    ports: Connections

    async def close(self) -> None:
        """Close all, the bus last: it still carries the acknowledgements."""
        await self.blobs.close()
        await self.redis.close()
        await self.bus.close()


async def connect(
    settings: ServiceSettings, needs: Needs, waiting_for: Callable[[str | None], None]
) -> Servers:
    """Connect to the servers, waiting until those that are needed answer.

    `waiting_for` is told which one is missing, None when all are there. Raises `SettingsFault`.
    """
    clock = SystemClock()
    nats, redis, s3 = settings.nats, settings.redis, settings.s3
    seed = read_secret(nats.seed_file) if nats.seed_file is not None else None
    token = read_secret(nats.token_file) if nats.token_file is not None else None
    options = NatsOptions(
        urls=nats.urls, name=settings.instance, seed=seed, token=token, tls=tls_of(nats)
    )
    password = read_secret(redis.password_file) if redis.password_file is not None else None
    records = RedisConnection(redis.url, password)
    blobs = S3Blobs(place_of(s3, s3.endpoint), clock)
    if Needs.RECORDS in needs:
        await _until_there("redis", records.ping, clock, waiting_for)
    if Needs.STORE in needs:
        await _until_there("s3", lambda: probe(blobs), clock, waiting_for)
    bus: list[NatsBus] = []

    async def join_bus() -> None:
        bus.append(await NatsBus.connect(options, replicas=nats.replicas))

    await _until_there("nats", join_bus, clock, waiting_for)
    waiting_for(None)
    ports = Connections(
        streams=bus[0].streams,
        deliveries=bus[0].deliveries,
        wire=bus[0].wire,
        blobs=PiecedBlobs(blobs),
        grants=S3Grants(place_of(s3, s3.public_endpoint or s3.endpoint)),
        records=RedisRoundRecords(records),
        presence=RedisPresence(records),
        documents=RedisDocuments(records, redis.documents_age),
        transfers=RedisTransfers(records),
        clock=clock,
    )
    return Servers(bus=bus[0], redis=records, blobs=blobs, ports=ports)


def place_of(settings: S3Settings, endpoint: str) -> S3Place:
    """Give the bucket at one of the store's endpoints."""
    secret = read_secret(settings.secret_key_file) if settings.secret_key_file is not None else ""
    return S3Place(
        endpoint=endpoint,
        bucket=settings.bucket,
        access_key=settings.access_key,
        secret_key=secret,
        region=settings.region,
    )


def tls_of(settings: NatsSettings) -> ssl.SSLContext | None:
    """Say whom to trust as a server, TLS 1.3 only; None without `tls://`. Raises `SettingsFault`."""
    if not any(url.lower().startswith("tls://") for url in settings.urls):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsFault(
            f"FEDBUS_NATS__CA_FILE: cannot read {settings.ca_file}: {error}"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


async def _until_there(
    name: str,
    attempt: Callable[[], Awaitable[None]],
    clock: Clock,
    waiting_for: Callable[[str | None], None],
) -> None:
    waiting_for(name)
    wait_s = RETRY_WAIT_FIRST_S
    while True:
        try:
            await attempt()
        except Away as away:
            _log.warning("service.waiting", server=name, error=str(away))
            await clock.sleep(_chance.uniform(wait_s / 2, wait_s))
            wait_s = min(2 * wait_s, RETRY_WAIT_MAX_S)
        else:
            return
