"""Dead letters as the api shows them, and what an operator does with them."""

import base64

import pytest
from fedbus_schemas import dead_letters, subjects
from fedbus_schemas.codec import read
from fedbus_schemas.dead_letters import LetterNote, Redo

FINISH = subjects.work("default", "s-1", "finish")


def bury(
    world, subject=FINISH, code="blob_missing", stream="WORK", data=b"item", detail="gone"
) -> int:
    world.clock.advance(0.1)
    headers = {
        dead_letters.CODE: code,
        dead_letters.DETAIL: detail,
        dead_letters.SEQUENCE: "7",
        dead_letters.DELIVERIES: "5",
        dead_letters.ORIGINAL_ID: "work-1",
    }
    dead = subjects.dead(stream, subject)
    sequence: int = world.bus.store(world.bus.taking(dead), dead, data, headers).sequence
    return sequence


def redo(world) -> None:
    """Do as a controller does."""
    for message in world.kept("INBOX"):
        if message.subject.endswith(".redo"):
            letter = read(Redo, message.data).letter
            kept = world.bus.streams["DEAD"].messages.get(letter)
            if kept is None:
                continue
            world.bus.streams["DEAD"].drop(letter)
            note = LetterNote(
                letter=letter,
                fate="retried",
                by="o",
                stream="WORK",
                subject="s",
                code="c",
                buried=kept.time,
            )
            world.put(subjects.dead_note("default", letter, "retried"), note.to_bytes())


async def start(world, client, file) -> None:
    model = (await client.post("/v1/models", content=file)).json()["digest"]
    await client.post("/v1/sessions", json={"model": model, "session": "s-1", "rounds": 3})


async def test_lists_the_newest_first_in_pages(world) -> None:
    sequences = [bury(world, subjects.work("default", f"s-{each}", "fold")) for each in range(5)]
    bury(world, "fl.other.work.s-1.fold")
    async with world.client() as client:
        seen: list[int] = []
        cursor: dict[str, str | None] = {}
        for _ in range(3):
            page = (await client.get("/v1/dead-letters", params={"limit": 2, **cursor})).json()
            seen += [one["sequence"] for one in page["items"]]
            cursor = {"cursor": page.get("next")}
        assert seen == sequences[::-1]
        assert cursor == {"cursor": None}
        [one] = page["items"]
        assert (one["stream"], one["subject"]) == ("WORK", "fl.default.work.s-0.fold")
        assert (one["session"], one["code"], one["deliveries"]) == ("s-0", "blob_missing", 5)
        assert one["meaning"]
        assert one.get("data") is None
        bad = await client.get("/v1/dead-letters", params={"cursor": "x"})
        assert bad.json()["code"] == "cursor_invalid"


async def test_filters_by_stream_code_and_session(world) -> None:
    first = bury(world, FINISH, "unreadable")
    second = bury(
        world, subjects.event("default", "s-2"), dead_letters.DELIVERIES_USED_UP, "EVENTS"
    )
    async with world.client() as client:
        for params, wanted in (
            ({"stream": "EVENTS"}, [second]),
            ({"code": "unreadable"}, [first]),
            ({"session": "s-2"}, [second]),
            ({"session": "s-2", "code": "unreadable"}, []),
        ):
            page = (await client.get("/v1/dead-letters", params=params)).json()
            assert [one["sequence"] for one in page["items"]] == wanted


async def test_shows_one_with_its_content(world) -> None:
    letter = bury(world, data=b"\xff poison")
    async with world.client() as client:
        one = (await client.get(f"/v1/dead-letters/{letter}")).json()
        assert base64.b64decode(one["data"]) == b"\xff poison"
        for missing in (letter + 1, 999):
            answer = await client.get(f"/v1/dead-letters/{missing}")
            assert answer.json()["code"] == "not_found"
        other = await client.get(f"/v1/dead-letters/{letter}", params={"project": "other"})
        assert other.json()["code"] == "not_found"


async def test_a_retry_is_an_order_and_done_once(world) -> None:
    letter = bury(world)
    world.bus.watchers.append(lambda: redo(world))
    async with world.client() as client:
        first = (await client.post(f"/v1/dead-letters/{letter}/retry")).json()
        again = (await client.post(f"/v1/dead-letters/{letter}/retry")).json()
        assert first == again
        assert first["fate"] == "retried"
        orders = [
            one for one in world.kept("INBOX") if one.subject == subjects.redo("default", "s-1")
        ]
        assert len(orders) == 1
        dropped = await client.delete(f"/v1/dead-letters/{letter}")
        assert (dropped.status_code, dropped.json()["code"]) == (409, "not_possible_now")


async def test_a_retry_that_no_controller_hears_says_so(world) -> None:
    letter = bury(world)
    async with world.client() as client:
        answer = await client.post(f"/v1/dead-letters/{letter}/retry")
        assert (answer.status_code, answer.json()["code"]) == (503, "retry_later")
        assert (await client.post("/v1/dead-letters/99/retry")).status_code == 404


async def test_a_dropped_letter_is_gone_and_noted(world) -> None:
    letter = bury(world)
    async with world.client() as client:
        for _ in range(2):
            answer = await client.delete(f"/v1/dead-letters/{letter}")
            assert answer.json()["fate"] == "dropped"
            assert answer.json()["by"] == "anonymous"
        assert (await client.get("/v1/dead-letters")).json()["items"] == []
    [note] = [read(LetterNote, one.data) for one in world.kept("NOTES")]
    assert (note.by, note.stream, note.subject, note.code) == (
        "anonymous",
        "WORK",
        FINISH,
        "blob_missing",
    )


@pytest.mark.parametrize(
    ("stream", "subject"),
    [
        ("WORK", FINISH),
        ("INBOX", subjects.result("default", "s-1")),
        ("INBOX", subjects.deadline("default", "s-1")),
        ("EVENTS", subjects.event("default", "s-1")),
    ],
)
async def test_a_session_that_is_held_up_says_by_what(world, file, stream, subject) -> None:
    async with world.client() as client:
        await start(world, client, file)
        assert (await client.get("/v1/sessions/s-1")).json()["stuck"] is None
        letter = bury(world, subject, stream=stream, detail="no blob")
        view = (await client.get("/v1/sessions/s-1")).json()
        assert view["stuck"]["dead_letter"] == letter
        assert view["stuck"]["detail"] == "no blob"
        status = (await client.get("/v1/status")).json()
        assert status["dead_letters"] == 1
        assert status["stuck"]["s-1"]["dead_letter"] == letter
        world.complete("s-1", [])  # whatever it was, the session went on
        assert (await client.get("/v1/sessions/s-1")).json()["stuck"] is None


async def test_a_lost_command_or_partial_holds_nobody_up(world, file) -> None:
    async with world.client() as client:
        await start(world, client, file)
        bury(world, subjects.command("default", "s-1"), stream="INBOX")
        bury(world, subjects.work("default", "s-1", "fold"))
        assert (await client.get("/v1/sessions/s-1")).json()["stuck"] is None
