"""The two accounts on a real nats-server: what a client and a service may do, and what is refused."""

import asyncio
import base64
import json
import secrets
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import nats.errors
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedbus_controller.devices import DeviceKeys
from fedbus_local import clients, keys, plan, servers
from fedbus_local.identity import EDGE_PAYLOAD_MAX, EDGE_SUBSCRIPTIONS_MAX
from fedbus_local.layout import Layout
from fedbus_runtime import bus_claims
from fedbus_runtime.bus_claims import BusKey
from fedbus_runtime.nats_accounts import NatsAccounts
from fedbus_runtime.nats_connection import NatsOptions
from fedbus_schemas import nkeys, subjects
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.nkeys import Kind
from fedbus_schemas.streams import EVENTS, MAIL, Stream
from nats.aio.client import Client
from nats.aio.msg import Msg

pytestmark = pytest.mark.servers

Pair = tuple[Credentials, Credentials]
PROJECT = "default"
TIMEOUT_S = 5.0


class Bus:
    """A nats-server with our generated configuration."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout.at(folder)
        self.layout.make()
        keys.ensure(self.layout)
        self.plan = plan.settle(None, plan.Wishes(services=False))
        plan.save(self.layout, self.plan)
        program = servers.nats(self.layout, self.plan)
        self.url = f"nats://127.0.0.1:{program.port}"
        self.process = subprocess.Popen(
            program.command, stderr=subprocess.PIPE, cwd=folder, text=True, bufsize=1
        )
        self.await_line("Server is ready")

    def await_line(self, text: str) -> None:
        assert self.process.stderr is not None
        seen: list[str] = []
        for line in self.process.stderr:
            seen.append(line)
            if text in line:
                return
        raise AssertionError("".join(seen))

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)
        self.await_line("Reloaded server configuration")

    def add(self, name: str) -> Credentials:
        [made] = clients.add(self.layout, self.plan, [name], PROJECT, None)
        return made

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()

    @asynccontextmanager
    async def service(self, role: str) -> AsyncIterator["Link"]:
        token = keys.read(self.layout, f"{role}.jwt")
        async with self._link(keys.read(self.layout, f"{role}.nk"), token, "_INBOX") as link:
            yield link

    @asynccontextmanager
    async def client(self, credentials: Credentials) -> AsyncIterator["Link"]:
        device = keys.user_of(credentials.device_seed)
        assert credentials.token is not None
        seed, token = credentials.device_seed, credentials.token
        async with self._link(seed, token, f"_INBOX.{device}") as link:
            yield link

    @asynccontextmanager
    async def _link(self, seed: str, token: str, inbox: str) -> AsyncIterator["Link"]:
        link = Link(seed, token)
        try:
            await link.open(self.url, inbox)
            yield link
        finally:
            await link.close()


class Link:
    """A connection as one user, with what the server complained of."""

    def __init__(self, seed: str, token: str) -> None:
        self.token = token
        self.key = Ed25519PrivateKey.from_private_bytes(nkeys.raw_seed(seed))
        self.user = keys.user_of(seed)
        self.nats = Client()
        self.complaints: asyncio.Queue[str] = asyncio.Queue()
        self.lost = asyncio.Event()

    async def open(self, url: str, inbox: str) -> None:
        self.nats._auth_configured = True
        await self.nats.connect(
            [url],
            inbox_prefix=inbox,
            user_jwt_cb=self.token.encode,
            signature_cb=lambda nonce: base64.b64encode(self.key.sign(nonce.encode())),
            error_cb=self._complain,
            disconnected_cb=self._lose,
            allow_reconnect=False,
        )

    async def close(self) -> None:
        await self.nats.close()
        if (
            self.nats._transport is not None
        ):  # the library leaves it open when the server turns us away
            self.nats._transport.close()  # type: ignore[no-untyped-call]  # untyped there

    async def refused_publish(self, subject: str, headers: dict[str, str] | None = None) -> None:
        await self.nats.publish(subject, b"x", headers=headers)
        await self._expect(f'permissions violation for publish to "{subject}"')

    async def refused_subscribe(self, subject: str, queue: str = "") -> None:
        await self.nats.subscribe(subject, queue=queue)
        await self._expect(f'permissions violation for subscription to "{subject}"')

    async def allowed_publish(self, subject: str) -> None:
        await self.nats.publish(subject, b"x")
        await self.nats.flush()
        assert self.complaints.empty(), self.complaints.get_nowait()

    async def listen(self, subject: str) -> "asyncio.Queue[Msg]":
        heard: asyncio.Queue[Msg] = asyncio.Queue()
        await self.nats.subscribe(subject, cb=heard.put)
        await self.nats.flush()
        return heard

    async def answered(self, subject: str, headers: dict[str, str] | None = None) -> Msg:
        """Ask until somebody answers, as the SDK does: other accounts see a new subscription a little later."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    return await self.nats.request(subject, b"", TIMEOUT_S, headers=headers)
                except nats.errors.NoRespondersError:
                    await self.nats.flush()

    async def await_loss(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await self.lost.wait()

    async def _expect(self, complaint: str) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            said = await self.complaints.get()
        assert complaint.lower() in said.lower()

    async def _complain(self, error: Exception) -> None:
        await self.complaints.put(str(error))

    async def _lose(self) -> None:
        self.lost.set()


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    running = Bus(tmp_path_factory.mktemp("accounts"))
    yield running
    running.stop()


@pytest.fixture
def pair(bus: Bus) -> Pair:
    """Two clients, made while the server runs."""
    alice, bob = (bus.add(f"{name}-{secrets.token_hex(4)}") for name in ("alice", "bob"))
    return alice, bob


async def test_a_request_names_the_device_that_the_server_attests(bus: Bus, pair: Pair) -> None:
    alice, _ = pair
    forged = {"Nats-Request-Info": json.dumps({"user": "UFORGED"})}
    async with bus.service("combiner") as combiner, bus.client(alice) as client:

        async def serve(message: Msg) -> None:
            await message.respond(json.dumps(dict(message.headers or {})).encode())

        await combiner.nats.subscribe(subjects.ALL_ASKS, queue="ingest", cb=serve)
        await combiner.nats.flush()
        answer = await client.answered(subjects.ask(PROJECT, client.user, "update"), forged)
    said = json.loads(json.loads(answer.data)["Nats-Request-Info"])
    assert said["user"] == client.user
    assert said["acc"] == keys.read(bus.layout, "edge.account")


@pytest.mark.parametrize("role", ["controller", "combiner", "api"])
async def test_every_service_may_answer_a_client(bus: Bus, pair: Pair, role: str) -> None:
    async with bus.service(role) as service, bus.client(pair[0]) as client:

        async def serve(message: Msg) -> None:
            await message.respond(b"yes")

        await service.nats.subscribe(f"fl.*.ask.*.{role}", queue=role, cb=serve)
        await service.nats.flush()
        subject = subjects.ask(PROJECT, client.user, role)
        assert (await client.answered(subject)).data == b"yes"


async def test_a_client_cannot_speak_as_another_or_to_the_inside(bus: Bus, pair: Pair) -> None:
    alice, bob = pair
    victim = keys.user_of(bob.device_seed)
    async with bus.client(alice) as client:
        for subject in (
            subjects.ask(PROJECT, victim, "update"),
            subjects.ask("other", client.user, "update"),
            subjects.task(PROJECT, victim, "s1"),
            subjects.mail(PROJECT, client.user, "s1"),
            subjects.update(PROJECT, "s1", 1, "caaaaaaaaaaaaaaaa", 1),
            subjects.event(PROJECT, "s1"),
            f"_INBOX.{victim}.x",
            "$JS.API.INFO",
            "$JS.API.STREAM.INFO.EVENTS",
            "$JS.API.DIRECT.GET.MBOX",
            "$SYS.REQ.SERVER.PING",
        ):
            await client.refused_publish(subject)


async def test_a_client_cannot_hear_another_or_the_inside(bus: Bus, pair: Pair) -> None:
    alice, bob = pair
    victim = keys.user_of(bob.device_seed)
    async with bus.client(alice) as client:
        for subject in (
            subjects.task(PROJECT, victim),
            "fl.default.task.*.*",
            f"_INBOX.{victim}.>",
            "_INBOX.>",
            subjects.ALL_ASKS,
            "fl.*.live.>",
            "$JS.EVENT.>",
            ">",
        ):
            await client.refused_subscribe(subject)
        await client.refused_subscribe(subjects.task(PROJECT, victim), queue="q")


async def test_a_client_with_too_many_subscriptions_is_cut_off(bus: Bus, pair: Pair) -> None:
    async with bus.client(pair[0]) as client:
        for number in range(EDGE_SUBSCRIPTIONS_MAX + 1):
            await client.nats.subscribe(f"_INBOX.{client.user}.{number}")
        await client.await_loss()


async def test_a_client_with_too_large_a_message_is_cut_off(bus: Bus, pair: Pair) -> None:
    async with bus.client(pair[0]) as client:
        subject = subjects.ask(PROJECT, client.user, "update")
        await client.nats.publish(subject, bytes(EDGE_PAYLOAD_MAX))
        await client.nats.flush()
        await client.nats.publish(subject, bytes(EDGE_PAYLOAD_MAX + 1))
        await client.await_loss()


async def test_an_answer_cannot_be_aimed_into_the_mailbox(bus: Bus, pair: Pair) -> None:
    alice, bob = pair
    victim = keys.user_of(bob.device_seed)
    mailbox = subjects.mail(PROJECT, victim, "s1")
    async with bus.service("controller") as controller, bus.client(alice) as client:
        await _create(controller, MAIL)

        async def serve(message: Msg) -> None:
            await message.respond(b"forged")

        await controller.nats.subscribe("fl.*.ask.*.aimed", cb=serve)
        await controller.nats.flush()
        await client.nats.publish(subjects.ask(PROJECT, client.user, "aimed"), b"", reply=mailbox)
        await client.nats.flush()
        stored = await controller.nats.request(
            "$JS.API.DIRECT.GET.MBOX", json.dumps({"last_by_subj": mailbox}).encode(), TIMEOUT_S
        )
    assert (stored.headers or {})["Status"] == "404"


async def test_mail_reaches_exactly_its_client(bus: Bus, pair: Pair) -> None:
    alice, bob = pair
    async with (
        bus.service("controller") as controller,
        bus.client(alice) as one,
        bus.client(bob) as other,
    ):
        await _create(controller, MAIL)
        heard = await one.listen(subjects.task(PROJECT, one.user))
        unheard = await other.listen(subjects.task(PROJECT, other.user))
        await controller.nats.request(subjects.mail(PROJECT, one.user, "s1"), b"task", TIMEOUT_S)
        async with asyncio.timeout(TIMEOUT_S):
            message = await heard.get()
        await other.nats.flush()
        assert unheard.empty()
    assert message.subject == subjects.task(PROJECT, one.user, "s1")
    assert message.data == b"task"


async def test_only_a_controller_decides(bus: Bus) -> None:
    decisions = (
        subjects.event(PROJECT, "s1"),
        subjects.mail(PROJECT, "UX", "s1"),
        subjects.schedule(PROJECT, "s1"),
        subjects.head(PROJECT, "s1", 1),
        subjects.work(PROJECT, "s1", "finish"),
        "$JS.API.STREAM.UPDATE.EVENTS",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.PURGE.INBOX",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.CREATE.EVENTS",
        "$JS.API.CONSUMER.CREATE.WORK.combiners.fl.*.work.*.*",
        "$JS.API.CONSUMER.MSG.NEXT.INBOX.controllers",
        "$JS.ACK.INBOX.controllers.1.1.1.1.0",
        "$JS.ACK.d.a.INBOX.controllers.1.1.1.1.0",
        "$JS.API.CONSUMER.CREATE.EVENTS.mine.fl.>",
    )
    for role in ("combiner", "api"):
        async with bus.service(role) as service:
            for subject in decisions:
                await service.refused_publish(subject)
    async with bus.service("controller") as controller:
        for subject in decisions:
            await controller.allowed_publish(subject)


async def test_each_service_keeps_to_its_part(bus: Bus) -> None:
    update = subjects.update(PROJECT, "s1", 1, "caaaaaaaaaaaaaaaa", 1)
    result, command = subjects.result(PROJECT, "s1"), subjects.command(PROJECT, "s1")
    work = subjects.work(PROJECT, "s1", "fold")
    dead = subjects.dead("WORK", work)
    async with bus.service("combiner") as combiner:
        await combiner.refused_publish(subjects.redo(PROJECT, "s1"))
        for subject in (update, result, subjects.notice(PROJECT, "s1"), dead):
            await combiner.allowed_publish(subject)
        await combiner.refused_publish(command)
    async with bus.service("api") as api:
        await api.allowed_publish(command)
        await api.refused_publish(update)
        await api.refused_publish(result)
        # Whoever has dead letters delivered again must not write some, nor publish what comes of them.
        await api.allowed_publish(subjects.redo(PROJECT, "s1"))
        await api.allowed_publish("$JS.API.STREAM.MSG.DELETE.DEAD")
        for subject in (dead, work, "$JS.API.STREAM.MSG.DELETE.EVENTS"):
            await api.refused_publish(subject)
    async with bus.service("controller") as controller:
        await controller.refused_publish(update)
        for subject in (command, result, work):  # where a dead letter goes back to
            await controller.allowed_publish(subject)
        for subject in (subjects.ALL_EVENTS, subjects.ALL_MAIL, "fl.>", ">"):
            await controller.refused_subscribe(subject)


async def test_a_reload_adds_a_client_and_disturbs_nobody(bus: Bus, pair: Pair) -> None:
    alice, _ = pair
    async with bus.service("controller") as controller, bus.client(alice) as client:
        await _create(controller, EVENTS)
        event = subjects.event(PROJECT, f"s-{secrets.token_hex(4)}")
        first = await controller.nats.request(event, b"1", TIMEOUT_S)
        asked = await controller.listen("fl.*.ask.*.greet")
        added = bus.add(f"carol-{secrets.token_hex(4)}")
        bus.reload()
        async with bus.client(added) as newcomer:
            for each in (newcomer, client):
                await each.nats.publish(subjects.ask(PROJECT, each.user, "greet"), b"hello")
                async with asyncio.timeout(TIMEOUT_S):
                    assert (await asked.get()).subject.split(".")[3] == each.user
        second = await controller.nats.request(event, b"2", TIMEOUT_S)
        assert json.loads(second.data)["seq"] == json.loads(first.data)["seq"] + 1
        assert not controller.lost.is_set()
        assert not client.lost.is_set()


async def test_a_request_that_meets_a_reload_is_answered_when_asked_again(
    bus: Bus, pair: Pair
) -> None:
    """The server forgets where an answer belongs that is still to come: an ask is always repeated."""
    async with bus.service("combiner") as combiner, bus.client(pair[0]) as client:
        asked = await combiner.listen("fl.*.ask.*.slow")
        subject = subjects.ask(PROJECT, client.user, "slow")
        for answered in (False, True):
            answers = await client.listen(f"_INBOX.{client.user}.{answered}")
            await client.nats.publish(subject, b"", reply=f"_INBOX.{client.user}.{answered}")
            request = await asked.get()
            if not answered:
                bus.reload()
            await request.respond(b"done")
        async with asyncio.timeout(TIMEOUT_S):
            assert (await answers.get()).data == b"done"


async def test_a_revoked_client_is_cut_off_at_once_and_stays_out(bus: Bus, pair: Pair) -> None:
    alice, bob = pair
    device_keys = DeviceKeys.load(bus.layout.keys)
    system = NatsOptions(
        urls=[bus.url], name="sys", seed=device_keys.system_seed, token=device_keys.system_token
    )
    accounts = NatsAccounts(system)
    async with bus.client(alice) as gone, bus.client(bob) as stays:
        account = bus_claims.read(await accounts.token(device_keys.account))
        now = datetime.fromtimestamp(time.time() + 1, UTC)
        revoked = {gone.user: now}
        began = time.monotonic()
        await accounts.replace(
            bus_claims.with_revocations(account, device_keys.operator, revoked, now)
        )
        await gone.await_loss()
        assert time.monotonic() - began < 1.0
        await stays.nats.flush()
        assert not stays.lost.is_set()
    with pytest.raises(nats.errors.Error):
        async with bus.client(alice):
            pass


async def test_whoever_holds_the_clients_key_makes_no_service_and_no_client_that_exists(
    bus: Bus, pair: Pair
) -> None:
    """A stolen signing key of `client` gives its thief new clients, and nothing else."""
    alice, _ = pair
    thief = BusKey.read(Kind.ACCOUNT, keys.read(bus.layout, "client.scope.nk"))
    stranger = BusKey(Kind.ACCOUNT, Ed25519PrivateKey.generate())
    core = bus_claims.read(keys.read(bus.layout, "core.jwt"))["sub"]
    edge = keys.read(bus.layout, "edge.account")
    seed = keys.new_user_seed()
    own, now = keys.user_of(seed), datetime.fromtimestamp(time.time(), UTC)
    usual = {"type": "user", "version": 2, "issuer_account": edge, "tags": ["project:default"]}
    everything = {"pub": {"allow": [">"]}, "sub": {"allow": [">"]}, "subs": -1, "payload": -1}

    def signed(by: BusKey, more: dict[str, object] | None = None, subject: str = own) -> str:
        return bus_claims.sign(by, subject, {**usual, **(more or {})}, name="x", issued=now)

    tokens = {
        "of a service's account": signed(thief, {"issuer_account": core}),
        "with more permissions": signed(thief, everything),
        "of another's key": signed(thief, subject=keys.user_of(alice.device_seed)),
        "signed by a stranger": signed(stranger),
        "that has ended": bus_claims.sign(
            thief, own, usual, name="x", issued=now, expires=now - timedelta(minutes=1)
        ),
    }
    for what, token in tokens.items():
        with pytest.raises(nats.errors.Error):
            async with bus._link(seed, token, f"_INBOX.{own}"):
                raise AssertionError(f"a token {what} was let in")
    async with bus._link(seed, signed(thief, {"tags": ["project:*"]}), f"_INBOX.{own}") as greedy:
        victim = keys.user_of(alice.device_seed)
        await greedy.refused_publish(subjects.ask(PROJECT, victim, "sync"))
        for subject in (subjects.task(PROJECT, victim), subjects.task("*", "*"), "fl.>"):
            await greedy.refused_subscribe(subject)


async def _create(controller: Link, stream: Stream) -> None:
    config = {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "storage": "memory" if stream.memory else "file",
        "max_msgs_per_subject": 1 if stream.one_per_subject else stream.per_subject_max or -1,
        "allow_direct": True,
        "republish": dict(zip(("src", "dest"), stream.republish or (), strict=True)),
    }
    answer = await controller.nats.request(
        f"$JS.API.STREAM.CREATE.{stream.name}", json.dumps(config).encode(), TIMEOUT_S
    )
    assert "error" not in json.loads(answer.data), answer.data
