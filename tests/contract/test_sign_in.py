"""Signing in to NATS with a seed, and who the server says is asking across accounts."""

import asyncio
import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedbus_runtime.errors import BusAway, NoAnswer
from fedbus_runtime.nats_bus import NatsBus
from fedbus_runtime.nats_connection import NatsOptions
from fedbus_runtime.ports import Request
from fedbus_schemas import nkeys, subjects

from tests.servers import start_nats
from tests.worlds import until

pytestmark = pytest.mark.servers


def new_user() -> tuple[str, str]:
    """Make a user's seed and public key."""
    raw = secrets.token_bytes(32)
    public = Ed25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()
    return nkeys.user_seed(raw), nkeys.user_public(public)


async def test_the_server_attests_who_asks_and_refuses_strangers(tmp_path: Path) -> None:
    service_seed, service = new_user()
    device_seed, device = new_user()
    stranger_seed, _ = new_user()
    nats = start_nats(
        tmp_path,
        f"""accounts {{
          CORE {{ jetstream: enabled, users: [ {{ nkey: {service} }} ]
                  exports: [ {{ service: "{subjects.ALL_ASKS}" }} ] }}
          EDGE {{ users: [ {{ nkey: {device} }} ]
                  imports: [ {{ service: {{ account: CORE, subject: "{subjects.ALL_ASKS}" }}
                                share: true }} ] }}
        }}""",
    )
    senders: list[str | None] = []

    async def handle(request: Request) -> bytes:
        senders.append(request.sender)
        return b"answer"

    core = await NatsBus.connect(NatsOptions(urls=[nats.url], name="core", seed=service_seed))
    edge = await NatsBus.connect(NatsOptions(urls=[nats.url], name="edge", seed=device_seed))
    try:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(core.wire.serve(subjects.ALL_ASKS, "combiners", handle))

            async def answered() -> bool:
                try:
                    return bool(await edge.wire.request(subjects.ask("p", device, "sync"), b"", 1))
                except NoAnswer:
                    return False

            await until(answered, "the device is answered")
            nats.restart()
            await until(answered, "the device is answered after a restart")
            serving.cancel()
        assert set(senders) == {device}
        stranger = NatsOptions(urls=[nats.url], name="stranger", seed=stranger_seed)
        with pytest.raises(BusAway, match="cannot connect"):
            await NatsBus.connect(stranger, timeout_s=1.0)
    finally:
        await edge.close()
        await core.close()
        nats.kill()
