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
