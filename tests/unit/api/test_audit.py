"""What auditors get is the stored bytes."""

import base64
import json

A, B = ("c" + one * 16 for one in "ab")


def stored(text):
    return [json.loads(line) for line in text.splitlines()]


async def test_exports_the_exact_bytes(world, file) -> None:
    async with world.client() as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        await client.post("/v1/sessions", json={"model": model, "session": "s-1", "rounds": 1})
        await world.submit("s-1", A)
        world.complete("s-1", [A])
        world.put("fl.default.head.s-1.3", b"{ signed }")
        world.store.content[f"default/sets/{'6' * 64}"] = b"the set"
        world.store.content[f"default/updates/{A}/{'1' * 64}"] = b"the update"
        base = "/v1/sessions/s-1/audit"
        for path, stream in (
            ("log", "EVENTS"),
            ("heads", "HEADS"),
            ("updates/1/1", "UPDATES"),
        ):
            lines = stored((await client.get(f"{base}/{path}")).text)
            kept = world.kept(stream)
            assert [base64.b64decode(one["data"]) for one in lines] == [one.data for one in kept]
            assert [one["sequence"] for one in lines] == [one.sequence for one in kept]
            assert all("T" in one["time"] for one in lines)
        for key, content in (
            (f"models/{model}", file),
            (f"sets/{'6' * 64}", b"the set"),
            (f"updates/{A}/{'1' * 64}", b"the update"),
            (f"default/sets/{'6' * 64}", b"the set"),
        ):
            assert (await client.get(f"{base}/blobs/{key}")).content == content
        for key in (f"partials/s-1/{'1' * 64}", f"other/models/{model}", "models/../x"):
            answer = await client.get(f"{base}/blobs/{key}")
            assert answer.status_code in (404, 422), key
        missing = await client.get(f"{base}/blobs/sets/{'7' * 64}")
        assert (missing.status_code, missing.json()["code"]) == (404, "blob_missing")
        assert (await client.get("/v1/trust")).json() == {"keys": ["K" * 43]}


async def test_gives_only_blobs_that_the_log_names(world, file) -> None:
    async with world.client() as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        for session in ("s-1", "s-2"):
            body = {"model": model, "session": session, "rounds": 1}
            await client.post("/v1/sessions", json=body)
        await world.submit("s-1", A)
        made = world.complete("s-1", [A])
        world.store.content[f"default/models/{made}"] = b"the model"
        world.store.content[f"default/updates/{A}/{'1' * 64}"] = b"the update"
        for key in (f"models/{made}", f"updates/{A}/{'1' * 64}"):
            assert (await client.get(f"/v1/sessions/s-1/audit/blobs/{key}")).status_code == 200
            other = await client.get(f"/v1/sessions/s-2/audit/blobs/{key}")
            assert (other.status_code, other.json()["code"]) == (404, "blob_missing")
        nobody = await client.get(f"/v1/sessions/s-1/audit/blobs/updates/{B}/{'1' * 64}")
        assert nobody.status_code == 404


async def test_says_which_blobs_were_deleted_by_rule(world, file) -> None:
    async with world.client() as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        body = {"model": model, "session": "s-1", "rounds": 1, "keep_updates": False}
        await client.post("/v1/sessions", json=body)
        world.complete("s-1", [A])
        gone = await client.get(f"/v1/sessions/s-1/audit/blobs/updates/{A}/{'1' * 64}")
        assert (gone.status_code, gone.json()["code"]) == (410, "pruned")
        other = await client.get(
            f"/v1/sessions/s-1/audit/blobs/updates/{'c' + 'z' * 16}/{'1' * 64}"
        )
        assert other.status_code == 404
