"""Every error is a problem with a code; nothing of the inside shows."""

import pytest
from fedbus_schemas.views import ProblemView

BODY = {"model": "0" * 64}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "named"),
    [
        ("GET", "/v1/nothing", None, 404, "not_found", "/v1/nothing"),
        ("DELETE", "/v1/sessions", None, 405, "invalid", "DELETE"),
        ("GET", "/v1/sessions/s-1", None, 404, "session_unknown", "s-1"),
        ("GET", "/v1/sessions/NOT.AN.ID", None, 422, "invalid", "path.session"),
        ("GET", "/v1/sessions?limit=0", None, 422, "invalid", "query.limit"),
        ("GET", "/v1/sessions?project=A*", None, 422, "invalid", "query.project"),
        ("GET", "/v1/sessions?cursor=s-9", None, 422, "cursor_invalid", "cursor"),
        ("GET", "/v1/sessions?naem=x", None, 422, "field_unknown", "query.naem"),
        ("GET", "/v1/sessions?sort=naem", None, 422, "field_unknown", "naem"),
        ("GET", "/v1/sessions?round.stored=1", None, 422, "field_unknown", "round.stored"),
        ("GET", "/v1/rounds?number__above=1", None, 422, "operator_unknown", "number__above"),
        ("GET", "/v1/rounds?number=one", None, 422, "invalid", "query.number"),
        ("GET", "/v1/rounds?opened__gt=now", None, 422, "invalid", "2026"),
        ("GET", "/v1/rounds?number__gt=1&number__gt=2", None, 422, "invalid", "one value"),
        ("GET", "/v1/rounds?sort=clients", None, 422, "invalid", "many"),
        ("POST", "/v1/sessions", {**BODY, "rounds": 0}, 422, "invalid", "body.rounds"),
        ("POST", "/v1/sessions", {**BODY, "ronds": 3}, 422, "invalid", "body.ronds"),
        ("POST", "/v1/sessions", {**BODY, "target": 2, "invited": 1}, 422, "invalid", "target"),
        ("POST", "/v1/sessions", BODY, 404, "not_found", "upload it first"),
        ("GET", "/v1/sessions/s-1/rounds/1", None, 404, "session_unknown", "s-1"),
        ("GET", "/v1/sessions/s-1/events", None, 404, "session_unknown", "s-1"),
        ("GET", "/v1/sessions/s-1/audit/log", None, 404, "session_unknown", "s-1"),
        ("GET", f"/v1/models/{'0' * 64}", None, 404, "not_found", "model"),
        ("GET", f"/v1/models/{'0' * 64}/lineage", None, 404, "not_found", "model"),
        ("GET", f"/v1/models/{'0' * 64}/download", None, 404, "not_found", "model"),
        ("GET", f"/v1/clients/{'c' + 'a' * 16}", None, 404, "client_unknown", "client"),
    ],
)
async def test_errors_are_problems(world, method, path, body, status, code, named) -> None:
    async with world.client() as client:
        answer = await client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = ProblemView.model_validate_json(answer.content)
        assert (problem.status, problem.code) == (status, code)
        assert named in problem.detail


async def test_every_v1_route_asks_for_the_token(new_world) -> None:
    world = new_world(token="secret")
    async with world.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        for path, operations in paths.items():
            for method in operations:
                if not path.startswith("/v1/") or path.startswith("/v1/enrol"):
                    continue  # a device that joins proves its key instead
                for headers in ({}, {"Authorization": "Bearer wrong"}):
                    answer = await client.request(method, path, headers=headers)
                    assert answer.status_code == 401, path
                    assert answer.headers["content-type"] == "application/problem+json"
                    assert answer.headers["www-authenticate"] == "Bearer"
        good = await client.get("/v1/sessions", headers={"Authorization": "Bearer secret"})
        assert good.status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_says_retry_later_while_the_bus_is_away(world) -> None:
    world.bus.away = True
    async with world.client() as client:
        answer = await client.get("/v1/sessions")
        assert (answer.status_code, answer.json()["code"]) == (503, "retry_later")
        status = await client.get("/v1/status")
        assert status.json()["servers"] == {"bus": "away", "records": "ok", "store": "ok"}


async def test_a_bug_of_ours_shows_nothing_of_the_inside(world, monkeypatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr(world.api.reader, "session", broken)
    async with world.client() as client:
        answer = await client.get("/v1/sessions/s-1")
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "inside" not in answer.text


async def test_is_ready_while_connected_and_not_stopping(world) -> None:
    async with world.client() as client:
        assert (await client.get("/readyz")).json() == {"status": "ok"}
        world.api.missing = lambda: {"nats": "not connected"}
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["detail"]) == (503, "nats: not connected")
        world.api.missing = dict
        world.api.stopping.set()
        assert (await client.get("/readyz")).status_code == 503
