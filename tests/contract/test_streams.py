"""What is stored: over memory and over NATS JetStream the same must hold."""

import asyncio
from datetime import timedelta

import pytest
from fedbus_runtime.errors import AlreadyStored, BusAway, BusRefused, Conflict
from fedbus_schemas import subjects
from fedbus_schemas.streams import DEAD, EVENTS, INBOX, MAIL, REGISTRY, UPDATES, WORK

from tests.worlds import BusWorld, next_of, until


async def test_reads_what_was_appended_in_order(bus: BusWorld) -> None:
    subject = subjects.event(bus.project, "s1")
    sequences = [await bus.streams.append(subject, b"%d" % each) for each in range(5)]
    assert sequences == sorted(set(sequences))
    everything = await bus.streams.read(EVENTS, subject)
    assert [message.data for message in everything] == [b"0", b"1", b"2", b"3", b"4"]
    assert [message.sequence for message in everything] == sequences
    later = await bus.streams.read(EVENTS, subject, after=sequences[1], limit=2)
    assert [message.data for message in later] == [b"2", b"3"]
    assert await bus.streams.read(EVENTS, subject, after=sequences[-1]) == []


async def test_gives_headers_and_time_back(bus: BusWorld) -> None:
    subject = subjects.event(bus.project, "s1")
    before = bus.clock.now()
    await bus.streams.append(subject, b"x", expected=0, headers={"Trace": "t1"})
    message = await bus.streams.last(EVENTS, subject)
    assert message is not None
    assert message.headers == {"Trace": "t1"}
    assert abs(message.time - before) < timedelta(seconds=5)


async def test_last_of_a_wildcard_is_the_newest(bus: BusWorld) -> None:
    anything = subjects.event(bus.project, "*")
    assert await bus.streams.last(EVENTS, anything) is None
    for session in ("s1", "s2", "s1"):
        await bus.streams.append(subjects.event(bus.project, session), session.encode())
    last = await bus.streams.last(EVENTS, anything)
    assert last is not None
    assert last.subject == subjects.event(bus.project, "s1")


async def test_compare_and_set_refuses_a_stale_append(bus: BusWorld) -> None:
    subject = subjects.event(bus.project, "s1")
    first = await bus.streams.append(subject, b"1", expected=0)
    with pytest.raises(Conflict):
        await bus.streams.append(subject, b"x", expected=0)
    await bus.streams.append(subjects.event(bus.project, "s2"), b"other", expected=0)
    second = await bus.streams.append(subject, b"2", expected=first)
    with pytest.raises(Conflict):
        await bus.streams.append(subject, b"x", expected=first)
    kept = await bus.streams.read(EVENTS, subject)
    assert [message.sequence for message in kept] == [first, second]


async def test_one_of_many_compare_and_set_appends_wins(bus: BusWorld) -> None:
    subject = subjects.event(bus.project, "s1")
    tries = [bus.streams.append(subject, b"%d" % each, expected=0) for each in range(16)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 15


async def test_a_refused_append_is_not_republished(bus: BusWorld) -> None:
    subject = subjects.event(bus.project, "s1")
    heard = []
    async with asyncio.TaskGroup() as tasks:
        listening = asyncio.Event()

        async def listen() -> None:
            feed = bus.wire.listen(subjects.live_event(bus.project))
            waiting = tasks.create_task(next_of(feed))
            await asyncio.sleep(0.1)  # the subscription has no answer that could be waited for
            listening.set()
            heard.append(await waiting)
            heard.append(await next_of(feed))
            await feed.aclose()  # type: ignore[attr-defined]  # a generator, more than the port says

        tasks.create_task(listen())
        await listening.wait()
        first = await bus.streams.append(subject, b"1", expected=0, headers={"Trace": "t"})
        with pytest.raises(Conflict):
            await bus.streams.append(subject, b"refused", expected=0)
        second = await bus.streams.append(subject, b"2", expected=first)
    assert [message.data for message in heard] == [b"1", b"2"]
    assert [message.sequence for message in heard] == [first, second]
    assert {message.subject for message in heard} == {subject}
    assert heard[0].headers == {"Trace": "t"}


@pytest.mark.parametrize("kind", ["mail", "update", "record"])
async def test_republishes_to_the_live_subject(bus: BusWorld, kind: str) -> None:
    device, client = "U" + "A" * 55, "c" + "a" * 16
    stored, live = {
        "mail": (subjects.mail(bus.project, device, "s1"), subjects.task(bus.project, device)),
        "update": (
            subjects.update(bus.project, "s1", 1, client, 2),
            f"fl.{bus.project}.live.upd.s1.1.{client}.2",
        ),
        "record": (subjects.client_record(bus.project, device), subjects.live_record(bus.project)),
    }[kind]
    async with asyncio.TaskGroup() as tasks:
        feed = bus.wire.listen(live)
        waiting = tasks.create_task(next_of(feed))
        await asyncio.sleep(0.1)  # the subscription has no answer that could be waited for
        await bus.streams.append(stored, b"x")
        assert (await waiting).subject == stored
        await feed.aclose()  # type: ignore[attr-defined]  # a generator, more than the port says


async def test_the_first_update_stands_for_ever(bus: BusWorld) -> None:
    subject = subjects.update(bus.project, "s1", 1, "c" + "a" * 16, 1)
    sequence = await bus.streams.append(subject, b"first")
    with pytest.raises(AlreadyStored):
        await bus.streams.append(subject, b"second")
    with pytest.raises(Conflict):
        await bus.streams.append(subject, b"second", expected=0)
    await bus.restart()
    with pytest.raises(AlreadyStored):
        await bus.streams.append(subject, b"second")
    kept = await bus.streams.read(UPDATES, subject)
    assert [(message.sequence, message.data) for message in kept] == [(sequence, b"first")]


async def test_the_last_record_replaces_the_one_before(bus: BusWorld) -> None:
    subject = subjects.client_record(bus.project, "U" + "B" * 55)
    await bus.streams.append(subject, b"old")
    newest = await bus.streams.append(subject, b"new")
    assert [m.sequence for m in await bus.streams.read(REGISTRY, subject)] == [newest]


async def test_mail_is_lost_with_the_server_and_events_are_not(bus: BusWorld) -> None:
    mail = subjects.mail(bus.project, "U" + "C" * 55, "s1")
    event = subjects.event(bus.project, "s1")
    await bus.streams.append(mail, b"m")
    await bus.streams.append(event, b"e")
    async with asyncio.TaskGroup() as tasks:
        returned = tasks.create_task(bus.wire.returned())
        await asyncio.sleep(0)
        await bus.restart()
        async with asyncio.timeout(10):
            await returned
    assert await bus.streams.last(MAIL, mail) is None
    assert await bus.streams.last(EVENTS, event) is not None
    await bus.streams.append(mail, b"again")


async def test_the_same_message_id_is_stored_once(bus: BusWorld) -> None:
    subject = subjects.work(bus.project, "s1", "fold")
    name = f"{bus.project}.fold.1"
    first = await bus.streams.append(subject, b"1", message_id=name)
    assert await bus.streams.append(subject, b"1", message_id=name) == first
    assert len(await bus.streams.read(WORK, subject)) == 1


async def test_compare_and_set_judges_before_the_message_id(bus: BusWorld) -> None:
    subject = subjects.event(bus.project, "s1")
    await bus.streams.append(subject, b"1", expected=0, message_id=bus.project)
    with pytest.raises(Conflict):
        await bus.streams.append(subject, b"1", expected=0, message_id=bus.project)


async def test_a_protected_stream_cannot_be_purged(bus: BusWorld) -> None:
    subject = subjects.event(bus.project, "s1")
    await bus.streams.append(subject, b"1")
    with pytest.raises(BusRefused):
        await bus.streams.cancel(EVENTS, subject)
    assert len(await bus.streams.read(EVENTS, subject)) == 1


async def test_updates_can_be_purged_by_subject_but_not_deleted_one_by_one(bus: BusWorld) -> None:
    subject = subjects.update(bus.project, "s1", 1, "c1", 1)
    kept = subjects.update(bus.project, "s1", 2, "c1", 1)
    sequence = await bus.streams.append(subject, b"1")
    await bus.streams.append(kept, b"2")
    with pytest.raises(BusRefused):
        await bus.streams.delete(UPDATES, sequence)
    await bus.streams.cancel(UPDATES, subject)
    everything = subjects.updates_of_session(bus.project, "s1")
    assert [one.data for one in await bus.streams.read(UPDATES, everything)] == [b"2"]


async def test_a_message_over_the_limit_is_refused_for_good(bus: BusWorld) -> None:
    with pytest.raises(BusRefused):
        await bus.streams.append(subjects.event(bus.project, "s1"), bytes(1024 * 1024 + 1))


async def test_a_subject_of_no_stream_is_away(bus: BusWorld) -> None:
    with pytest.raises(BusAway):
        await bus.streams.append(f"fl.{bus.project}.nothing.here", b"x")


async def test_latest_gives_exactly_what_was_stored_up_to_a_sequence(bus: BusWorld) -> None:
    wanted = subjects.update(bus.project, "s1", 1, "*", 1)
    sequences = [
        await bus.streams.append(subjects.update(bus.project, "s1", 1, f"c{each}", 1), b"u")
        for each in range(6)
    ]
    await bus.streams.append(subjects.update(bus.project, "s1", 2, "c1", 1), b"other round")
    cut = await bus.streams.latest(UPDATES, [wanted], up_to=sequences[3])
    assert [message.sequence for message in cut] == sequences[:4]
    assert await bus.streams.latest(UPDATES, [wanted], up_to=0) == []
    assert await bus.streams.latest(UPDATES, [wanted], up_to=sequences[0] - 1) == []
    for far in (None, 1_000_000_000):  # also up to what the stream has not reached
        everything = await bus.streams.latest(UPDATES, [wanted], up_to=far)
        assert [message.sequence for message in everything] == sequences


async def test_latest_takes_the_newest_below_the_cut_of_each_subject(bus: BusWorld) -> None:
    first, second = subjects.event(bus.project, "s1"), subjects.event(bus.project, "s2")
    old = await bus.streams.append(first, b"old")
    other = await bus.streams.append(second, b"other")
    new = await bus.streams.append(first, b"new")
    cut = await bus.streams.latest(EVENTS, [first, second], up_to=other)
    assert [message.sequence for message in cut] == [old, other]
    now = await bus.streams.latest(EVENTS, [first, second, first])
    assert [message.sequence for message in now] == [other, new]


async def test_more_updates_than_one_answer_holds(bus: BusWorld) -> None:
    names = [subjects.update(bus.project, "s1", 1, f"c{each}", 1) for each in range(1100)]
    sequences = sorted(await asyncio.gather(*(bus.streams.append(name, b"u") for name in names)))
    wanted = subjects.update(bus.project, "s1", 1, "*", 1)
    by_list = await bus.streams.latest(UPDATES, names, up_to=sequences[1049])
    assert [message.sequence for message in by_list] == sequences[:1050]
    by_wildcard = await bus.streams.latest(UPDATES, [wanted], up_to=sequences[1049])
    assert [message.sequence for message in by_wildcard] == sequences[:1050]
    read = await bus.streams.read(UPDATES, wanted)
    assert [message.sequence for message in read] == sequences
    counted = await bus.streams.subjects(UPDATES, wanted)
    assert counted == dict.fromkeys(names, 1)


async def test_a_wildcard_over_too_many_logs_is_refused(bus: BusWorld) -> None:
    names = [subjects.event(bus.project, f"s{each}") for each in range(1100)]
    await asyncio.gather(*(bus.streams.append(name, b"e") for name in names))
    with pytest.raises(BusRefused):
        await bus.streams.latest(EVENTS, [subjects.event(bus.project, "*")])
    assert len(await bus.streams.latest(EVENTS, names)) == 1100


async def test_a_schedule_fires_once_at_its_time(bus: BusWorld) -> None:
    consumer = await bus.consumer("INBOX", "in")
    plan, target = subjects.schedule(bus.project, "s1"), subjects.deadline(bus.project, "s1")
    due = bus.clock.now() + timedelta(seconds=0.4)
    await bus.streams.schedule(plan, target, b"due", due)
    (delivery,) = await bus.deliveries.fetch(consumer, 10)
    assert bus.clock.now() >= due
    assert (delivery.message.subject, delivery.message.data) == (target, b"due")
    await delivery.ack()
    assert await bus.streams.last(INBOX, plan) is None
    assert await bus.deliveries.fetch(consumer, 10) == []


async def test_a_later_schedule_replaces_the_first_also_over_a_restart(bus: BusWorld) -> None:
    consumer = await bus.consumer("INBOX", "in")
    plan, target = subjects.schedule(bus.project, "s1"), subjects.deadline(bus.project, "s1")
    soon, later = timedelta(seconds=0.6), timedelta(seconds=1.2)
    start = bus.clock.now()
    await bus.streams.schedule(plan, target, b"first", start + soon)
    await bus.streams.schedule(plan, target, b"second", start + later)
    await bus.restart()
    fired: list[bytes] = []

    async def fired_one() -> bool:
        try:
            for delivery in await bus.deliveries.fetch(consumer, 10):
                await delivery.ack()
                fired.append(delivery.message.data)
        except BusAway:
            return False
        return bool(fired)

    await until(fired_one, "the schedule fired")
    assert bus.clock.now() >= start + later
    assert await bus.deliveries.fetch(consumer, 10) == []
    assert fired == [b"second"]


async def test_a_schedule_in_the_past_fires_at_once_and_a_cancelled_one_never(
    bus: BusWorld,
) -> None:
    consumer = await bus.consumer("INBOX", "in")
    target = subjects.deadline(bus.project, "s1")
    now = bus.clock.now()
    cancelled = subjects.schedule(bus.project, "s2")
    await bus.streams.schedule(cancelled, target, b"cancelled", now + timedelta(seconds=0.3))
    await bus.streams.cancel(INBOX, cancelled)
    plan = subjects.schedule(bus.project, "s1")
    await bus.streams.schedule(plan, target, b"past", now - timedelta(seconds=5))
    (delivery,) = await bus.deliveries.fetch(consumer, 10)
    assert delivery.message.data == b"past"
    await delivery.ack()
    assert await bus.deliveries.fetch(consumer, 10) == []


async def test_a_lifetime_ends(bus: BusWorld) -> None:
    subject = subjects.mail(bus.project, "U" + "D" * 55, "s1")
    await bus.streams.append(subject, b"x", ttl_s=1)
    assert await bus.streams.last(MAIL, subject) is not None

    async def is_gone() -> bool:
        return await bus.streams.last(MAIL, subject) is None

    await until(is_gone, "the message is gone")


async def test_preparing_again_changes_nothing(bus: BusWorld) -> None:
    subject = subjects.event(bus.project, "s1")
    await bus.streams.append(subject, b"x")
    await bus.deliveries.prepare([EVENTS, MAIL, UPDATES], [])
    assert len(await bus.streams.read(EVENTS, subject)) == 1


async def test_deletes_one_message_and_only_that(bus: BusWorld) -> None:
    subject = subjects.dead("WORK", subjects.work(bus.project, "s1", "fold"))
    first, second = [await bus.streams.append(subject, each) for each in (b"1", b"2")]
    await bus.streams.delete(DEAD, first)
    await bus.streams.delete(DEAD, first)
    everything = subjects.all_dead(bus.project)
    assert [one.sequence for one in await bus.streams.read(DEAD, everything)] == [second]
    await bus.streams.delete(DEAD, second)
    await bus.streams.delete(DEAD, second + 1_000)
    assert await bus.streams.read(DEAD, everything) == []


async def test_deletes_nothing_of_a_protected_stream(bus: BusWorld) -> None:
    sequence = await bus.streams.append(subjects.event(bus.project, "s1"), b"x")
    with pytest.raises(BusRefused):
        await bus.streams.delete(EVENTS, sequence)
