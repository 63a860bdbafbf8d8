"""Models: upload, download, lineage."""

import hashlib

import pytest

A, B = ("c" + one * 16 for one in "ab")


async def test_takes_a_model_in_once(world, file) -> None:
    digest = hashlib.sha256(file).hexdigest()
    async with world.client() as client:
        first = await client.post("/v1/models?name=seed", content=file)
        again = await client.post("/v1/models", content=file)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        assert first.json()["digest"] == digest
        assert len(first.json()["exponents"]) == 2
        assert world.store.content[f"default/models/{digest}"] == file
        view = (await client.get(first.headers["location"])).json()
        assert (view["name"], view["parent"], view["size"]) == ("seed", None, len(file))


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "unreadable"),
        (b"not a tensor file", 422, "unreadable"),
        (b"x" * 5000, 413, "too_large"),
    ],
)
async def test_refuses_what_is_no_model(world, content, status, code) -> None:
    async with world.client() as client:
        answer = await client.post("/v1/models", content=content)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert not world.store.content


async def test_downloads_whole_and_in_parts(world, file) -> None:
    async with world.client() as client:
        digest = (await client.post("/v1/models", content=file)).json()["digest"]
        path = f"/v1/models/{digest}/download"
        whole = await client.get(path)
        assert whole.content == file
        assert whole.headers["content-length"] == str(len(file))
        assert whole.headers["etag"] == f'"{digest}"'
        part = await client.get(path, headers={"Range": "bytes=8-11"})
        assert (part.status_code, part.content) == (206, file[8:12])
        assert part.headers["content-range"] == f"bytes 8-11/{len(file)}"
        rest = await client.get(path, headers={"Range": f"bytes={len(file) - 3}-"})
        assert rest.content == file[-3:]
        beyond = await client.get(path, headers={"Range": "bytes=99999-"})
        assert (beyond.status_code, beyond.json()["code"]) == (416, "invalid")
        known = await client.get(path, headers={"If-None-Match": f'"{digest}"'})
        assert (known.status_code, known.content) == (304, b"")


async def test_follows_a_model_to_its_ancestors_through_sessions(world, file) -> None:
    async with world.client() as client:
        uploaded = (await client.post("/v1/models", content=file)).json()["digest"]
        body = {"model": uploaded, "session": "s-1", "rounds": 2}
        await client.post("/v1/sessions", json=body)
        one, two = world.complete("s-1", [A]), world.complete("s-1", [B])
        await client.post("/v1/sessions", json=body | {"model": two, "session": "s-2"})
        three = world.complete("s-2", [A])
        for _ in range(2):  # the second time without Redis
            answer = (await client.get(f"/v1/models/{three}/lineage")).json()
            assert answer["complete"] is True
            assert [(m["digest"], m["parent"], m["session"]) for m in answer["items"]] == [
                (three, two, "s-2"),
                (two, one, "s-1"),
                (one, uploaded, "s-1"),
                (uploaded, None, None),
            ]
            short = (await client.get(f"/v1/models/{three}/lineage?limit=2")).json()
            assert [one["digest"] for one in short["items"]] == [three, two]
            assert short["complete"] is False
            world.redis.flush()
        listed = (await client.get("/v1/models")).json()["items"]
        assert [one["digest"] for one in listed] == [three, two, one, uploaded]
        of_one = (await client.get("/v1/models?session=s-1")).json()["items"]
        assert [one["digest"] for one in of_one] == [two, one]
