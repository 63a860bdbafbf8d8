"""Compute packages: stored by their SHA-256, one active, and none replaced under a session."""

import asyncio
import hashlib

import pytest
from Crypto.PublicKey import ECC
from fedbus.consent.signers import signature

ONE, TWO = b"\x1f\x8b" + b"one" * 9, b"PK\x03\x04" + b"two" * 9


async def stored(client, content, **query):
    answer = await client.post("/v1/packages", content=content, params=query)
    assert answer.is_success, answer.text
    return answer.json()["digest"]


async def seed(client, file):
    return (await client.post("/v1/models", content=file)).json()["digest"]


async def packages_and_seed(client, file):
    return await stored(client, ONE), await stored(client, TWO), await seed(client, file)


async def test_stores_packages_and_gives_them_back(world) -> None:
    async with world.client() as client:
        first = await client.post("/v1/packages?name=digits", content=ONE)
        again = await client.post("/v1/packages", content=ONE)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        digest = hashlib.sha256(ONE).hexdigest()
        assert first.json()["digest"] == digest
        assert (first.json()["name"], first.json()["form"]) == ("digits", "tar.gz")
        assert world.store.content[f"default/packages/{digest}"] == ONE
        other = await stored(client, TWO, sha256=hashlib.sha256(TWO).hexdigest())
        assert (await client.get("/v1/packages/count")).json() == {"count": 2}
        listed = (await client.get("/v1/packages")).json()["items"]
        assert [one["digest"] for one in listed] == [other, digest]
        got = await client.get(f"/v1/packages/{digest}/download")
        assert (got.content, got.headers["etag"]) == (ONE, f'"{digest}"')
        assert (await client.get(f"/v1/packages/{digest}/checksum")).json() == {"sha256": digest}
        assert (await client.get(first.headers["location"])).json() == first.json()
        for place in ("0" * 64, "active"):
            assert (await client.get(f"/v1/packages/{place}")).json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("content", "query", "code"),
    [
        (b"", {}, "unreadable"),
        (b"#!/bin/sh", {}, "unreadable"),
        (ONE, {"sha256": "0" * 64}, "hash_mismatch"),
        (b"PK\x03\x04" + bytes(5000), {}, "too_large"),
    ],
)
async def test_refuses_what_is_no_archive(world, content, query, code) -> None:
    async with world.client() as client:
        answer = await client.post("/v1/packages", content=content, params=query)
        assert answer.json()["code"] == code
        assert not world.store.content


async def test_a_session_pins_the_active_package_and_then_it_stays(world, file) -> None:
    async with world.client() as client:
        one, two, model = await packages_and_seed(client, file)
        assert (await client.get("/v1/packages/active")).status_code == 404
        bare = (await client.post("/v1/sessions", json={"model": model})).json()
        assert bare.get("package") is None
        for package in (two, one):  # nobody has used it yet
            put = await client.put("/v1/packages/active", json={"package": package})
            assert put.json()["package"] == package
        session = (
            await client.post("/v1/sessions", json={"model": model, "session": "s-1"})
        ).json()
        assert session["package"] == one
        federation = (await client.get("/v1/federation")).json()
        assert (federation["configured"], federation["session"]) == (True, "s-1")
        swapped = await client.put("/v1/packages/active", json={"package": two})
        assert (swapped.status_code, swapped.json()["code"]) == (409, "federation_configured")
        assert "/v1/federation/initialise" in swapped.json()["detail"]
        gone = await client.delete("/v1/packages/active")
        assert gone.json()["code"] == "federation_configured"
        smuggled = await client.post("/v1/sessions", json={"model": model, "package": two})
        assert smuggled.json()["code"] == "package_not_configured"
        assert (await client.put("/v1/packages/active", json={"package": one})).status_code == 200


async def test_a_new_generation_has_another_package_and_old_sessions_keep_theirs(
    world, file
) -> None:
    async with world.client() as client:
        one, two, model = await packages_and_seed(client, file)
        await client.put("/v1/packages/active", json={"package": one})
        old = {"model": model, "session": "s-old"}
        await client.post("/v1/sessions", json=old)
        unknown = {"package": two, "model": "0" * 64}
        refused = await client.post("/v1/federation/initialise", json=unknown)
        assert refused.json()["code"] == "not_found"
        anew = (
            await client.post("/v1/federation/initialise", json={"package": two, "model": model})
        ).json()
        assert (anew["generation"], anew["package"], anew["configured"]) == (2, two, False)
        assert anew["model"] == model
        new = (await client.post("/v1/sessions", json={"model": model})).json()
        assert new["package"] == two
        assert (await client.get("/v1/sessions/s-old")).json()["package"] == one
        assert (await client.post("/v1/sessions", json=old)).status_code == 200, "sent again"
        earlier = await client.post("/v1/sessions", json={"model": model, "package": one})
        assert earlier.json()["package"] == one
        numbers = [
            one["number"] for one in (await client.get("/v1/federation")).json()["generations"]
        ]
        assert numbers == [2, 1]


async def test_a_swap_and_a_start_at_once_cannot_both_be_right(world, file) -> None:
    async with world.client() as client:
        one, two, model = await packages_and_seed(client, file)
        await client.put("/v1/packages/active", json={"package": one})
        started, swapped = await asyncio.gather(
            client.post("/v1/sessions", json={"model": model}),
            client.put("/v1/packages/active", json={"package": two}),
        )
        federation = (await client.get("/v1/federation")).json()
        assert started.json()["package"] == federation["package"]
        assert (swapped.status_code == 200) == (federation["package"] == two)


async def test_signatures_ride_to_the_sessions_that_start_after_them(world, file) -> None:
    async with world.client() as client:
        package, _, model = await packages_and_seed(client, file)
        await client.put("/v1/packages/active", json={"package": package})
        one, other = (signature(ECC.generate(curve="Ed25519"), package) for _ in range(2))
        place = f"/v1/packages/{package}/signatures"
        for vouched in (one, other, one):
            view = (await client.post(place, json=vouched.model_dump())).json()
        assert set(view["signers"]) == {one.key, other.key}
        assert len(view["signers"]) == 2
        assert view["active"]
        assert (await client.get(f"/v1/packages/{package}")).json() == view
        false = {**one.model_dump(), "key": other.key}
        assert (await client.post(place, json=false)).json()["code"] == "bad_signature"
        again = await client.put("/v1/packages/active", json={"package": package})
        assert again.is_success
        started = await client.post("/v1/sessions", json={"session": "signed", "model": model})
        assert started.is_success, started.text
