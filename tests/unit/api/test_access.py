"""Who may call which route: every route, by every kind of caller; tokens, acts and limits."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from fedbus_api.access.rights import NEEDS, ROLES, Need, Right
from fedbus_schemas.access_views import ActView, MadeTokenView
from fedbus_schemas.identities import Role
from fedbus_schemas.views import ProblemView

FIRST = "the first administrator's"
OPENAPI = Path(__file__).parents[3] / "schemas/fedbus_schemas/generated/openapi.json"
EXAMPLES = {
    "session": "s-1",
    "digest": "0" * 64,
    "client": "c" + "a" * 16,
    "token": "0" * 16,
    "key": f"models/{'0' * 64}",
}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def make(world, role: str, project: str = "default", **more: object) -> MadeTokenView:
    async with world.client() as client:
        body = {"name": f"a-{role}", "role": role, **more}
        answer = await client.post(
            "/v1/tokens", json=body, params={"project": project}, headers=bearer(FIRST)
        )
        assert answer.status_code == 201, answer.text
        return MadeTokenView.model_validate_json(answer.content)


@pytest.fixture
def guarded(new_world):
    return new_world(token=FIRST)


def operations() -> list[tuple[str, str]]:
    """Give every operation under /v1 as the api's own document names it, with a path that fits."""
    found = []
    for path, methods in json.loads(OPENAPI.read_text())["paths"].items():
        if path.startswith("/v1"):
            real = re.sub(r"\{(\w+)\}", lambda name: EXAMPLES.get(name[1], "1"), path)
            found += [(f"{method.upper()} {path}", real) for method in methods]
    return found


async def refusal(client, name: str, path: str, token: str, **params: str) -> str | None:
    """Say with which code a caller is kept out, None when they are let through to the route."""
    method = name.split(" ")[0]
    answer = await client.request(method, path, params=params, headers=bearer(token))
    if answer.status_code not in (401, 403):
        return None
    problem = ProblemView.model_validate_json(answer.content)
    return str(problem.code)


async def test_every_route_lets_in_exactly_the_roles_that_the_table_names(guarded) -> None:
    tokens = {role: (await make(guarded, role)).bearer for role in Role}
    other = (await make(guarded, "admin", project="elsewhere")).bearer
    old = (await make(guarded, "admin", lifetime_s=1)).bearer
    gone = await make(guarded, "admin")
    seen = 0
    async with guarded.client() as client:
        await client.delete(f"/v1/tokens/{gone.token}", headers=bearer(FIRST))
        guarded.clock.advance(2)
        for name, path in operations():
            if name.endswith("/events"):
                continue  # a stream without an end, see below
            need = NEEDS[name]
            if need.public:
                answer = await client.request(name.split(" ")[0], path)
                assert answer.status_code == 422, name  # it was let through, and brings nothing
                continue
            for role in Role:
                allowed = need.right is None or need.right in ROLES[role]
                wanted = None if allowed else "forbidden"
                assert await refusal(client, name, path, tokens[role]) == wanted, (name, role)
            wanted = None if need.anywhere else "forbidden"
            assert await refusal(client, name, path, other) == wanted, name
            assert await refusal(client, name, path, old) == "token_expired", name
            assert await refusal(client, name, path, gone.bearer) == "token_revoked", name
            assert await refusal(client, name, path, "wrong") == "unauthorized", name
            assert (await client.request(name.split(" ")[0], path)).status_code == 401
            seen += 1
    assert seen == len(NEEDS) - 2 - sum(one.public for one in NEEDS.values())


async def test_the_event_streams_are_guarded_too(guarded) -> None:
    other = (await make(guarded, "admin", project="elsewhere")).bearer
    async with guarded.client() as client:
        for path in ("/v1/events", "/v1/sessions/s-1/events"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers=bearer(other))).status_code == 403


async def test_nobody_gets_past_the_table(guarded) -> None:
    """Paths that the router and the guard might read differently: not one of them reaches a route."""
    viewer = (await make(guarded, "viewer")).bearer
    async with guarded.client() as client:
        for path in (
            "/v1/sessions/",
            "//v1/sessions",
            "/V1/sessions",
            "/v1/sessions%0A",
            "/v1/x/..",
        ):
            answer = await client.post(path, headers=bearer(viewer), json={"rounds": 1})
            assert answer.status_code in (403, 404, 405), path
        two = await client.get("/v1/sessions?project=default&project=x", headers=bearer(viewer))
        assert two.status_code == 422
    assert not guarded.kept("INBOX")


async def test_a_token_is_kept_as_a_hash_and_works_at_every_api(guarded) -> None:
    made = await make(guarded, "operator")
    kept = b"".join(one.data for one in guarded.kept("TOKENS"))
    assert made.bearer[21:].encode() not in kept
    async with guarded.client(guarded.another()) as client:
        answer = await client.get("/v1/whoami", headers=bearer(made.bearer))
        assert answer.json() == {
            "name": "a-operator",
            "kind": "token",
            "roles": [{"role": "operator", "project": "default"}],
            "expires": answer.json()["expires"],
        }
        await client.delete(f"/v1/tokens/{made.token}", headers=bearer(FIRST))
    async with guarded.client() as client:
        answer = await client.get("/v1/whoami", headers=bearer(made.bearer))
        assert answer.json()["code"] == "token_revoked"
        listed = (await client.get("/v1/tokens?state=revoked", headers=bearer(FIRST))).json()
        assert [one["token"] for one in listed["items"]] == [made.token]
        assert "bearer" not in listed["items"][0]


async def test_an_administrator_of_one_project_cannot_reach_beyond_it(guarded) -> None:
    mine = (await make(guarded, "admin")).bearer
    wide = await make(guarded, "admin", everywhere=True)
    async with guarded.client() as client:
        asked = {"name": "x", "role": "viewer", "everywhere": True}
        answer = await client.post("/v1/tokens", json=asked, headers=bearer(mine))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        answer = await client.delete(f"/v1/tokens/{wide.token}", headers=bearer(mine))
        assert answer.status_code == 403
        listed = (await client.get("/v1/tokens", headers=bearer(mine))).json()["items"]
        assert wide.token not in [one["token"] for one in listed]
        elsewhere = await client.get("/v1/whoami?project=p2", headers=bearer(wide.bearer))
        assert elsewhere.json()["roles"] == [{"role": "admin", "project": None}]
        assert (await client.get("/v1/tokens?project=p2", headers=bearer(wide.bearer))).is_success


async def test_a_token_of_another_project_cannot_be_revoked(guarded) -> None:
    theirs = await make(guarded, "viewer", project="elsewhere")
    mine = (await make(guarded, "admin")).bearer
    async with guarded.client() as client:
        answer = await client.delete(f"/v1/tokens/{theirs.token}", headers=bearer(mine))
        assert answer.status_code == 404
        seen = await client.get("/v1/sessions?project=elsewhere", headers=bearer(theirs.bearer))
        assert seen.status_code == 200


async def test_what_is_done_is_written_down_before_it_is_done(guarded) -> None:
    operator = (await make(guarded, "operator")).bearer
    async with guarded.client() as client:
        await client.delete("/v1/packages/active", headers=bearer(operator))
        await client.post("/v1/federation/initialise", json={}, headers=bearer(operator))
        listed = (await client.get("/v1/acts", headers=bearer(FIRST))).json()["items"]
        acts = [ActView.model_validate(one) for one in listed]
        refused, done, made = acts
        assert (refused.who, refused.status) == ("token:a-operator", 403)
        assert (done.method, done.path) == ("DELETE", "/v1/packages/active")
        assert done.status == 200
        assert done.roles == (Role.OPERATOR,)
        assert done.address == "127.0.0.1"
        assert (made.path, made.status) == ("/v1/tokens", 201)
        assert made.made.startswith("/v1/tokens/")
        mine = await client.get("/v1/acts?who=token:a-operator", headers=bearer(FIRST))
        assert mine.json()["count"] == 2


async def test_while_an_act_cannot_be_written_down_it_is_not_done(guarded) -> None:
    del guarded.bus.streams["ACTS"]
    async with guarded.client() as client:
        body = {"name": "x", "role": "viewer"}
        answer = await client.post("/v1/tokens", json=body, headers=bearer(FIRST))
        assert answer.status_code == 503
    assert not guarded.kept("TOKENS")


async def test_one_caller_cannot_take_all_there_is(guarded) -> None:
    eager, other = [(await make(guarded, "viewer")).bearer for _ in "ab"]
    limits = {"requests_burst": 3, "requests_per_s": 0.01}
    guarded.settings = guarded.settings.model_copy(update=limits)
    async with guarded.client(guarded.another()) as client:
        got = [(await client.get("/v1/whoami", headers=bearer(eager))) for _ in range(5)]
        assert [one.status_code for one in got] == [200, 200, 200, 429, 429]
        assert got[-1].json()["code"] == "rate_limited"
        assert int(got[-1].headers["retry-after"]) >= 1
        assert (await client.get("/v1/whoami", headers=bearer(other))).status_code == 200


async def test_a_body_has_a_limit_also_when_it_hides_its_length(guarded) -> None:
    async def endless():
        for _ in range(4096):
            yield b" " * 1024

    read = 0

    async def counted():
        nonlocal read
        async for part in endless():
            read += len(part)
            yield part

    async with guarded.client() as client:
        headers = {**bearer(FIRST), "content-type": "application/json"}
        answer = await client.post("/v1/sessions", content=b" " * (2 * 1024**2), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        answer = await client.post("/v1/sessions", content=counted(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert read <= guarded.settings.body_bytes_max + 64 * 1024


async def test_nobody_unknown_makes_the_api_read_a_body(guarded) -> None:
    async def body():
        raise AssertionError("the body was read")
        yield b""

    async with guarded.client() as client:
        for path in ("/v1/sessions", "/v1/models", "/v1/packages"):
            assert (await client.post(path, content=body())).status_code == 401


async def test_an_answer_that_goes_on_ends_when_the_token_does(guarded, monkeypatch) -> None:
    from fedbus_api.access.guard import _Answer, _Passing

    made = await make(guarded, "viewer")
    sent = []

    async def send(message) -> None:
        sent.append(message)

    answer = _Answer(guarded.api.access, _Passing(f"Bearer {made.bearer}", Need(None), None), send)
    await answer({"type": "http.response.start", "status": 200, "headers": []})
    await answer({"type": "http.response.body", "body": b"1", "more_body": True})
    async with guarded.client() as client:
        await client.delete(f"/v1/tokens/{made.token}", headers=bearer(FIRST))
    monkeypatch.setattr(answer, "_checked", answer._checked - timedelta(minutes=1).total_seconds())
    with pytest.raises(OSError, match="no longer holds"):
        await answer({"type": "http.response.body", "body": b"2", "more_body": True})
    assert len(sent) == 2


def test_roles_differ_where_they_should() -> None:
    assert Right.OPERATE not in ROLES[Role.AUDITOR]
    assert Right.AUDIT not in ROLES[Role.OPERATOR]
    assert ROLES[Role.VIEWER] == {Right.READ}
    assert all(Right.ADMINISTER not in ROLES[role] for role in Role if role is not Role.ADMIN)
