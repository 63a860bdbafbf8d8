"""Tokens of an OpenID Connect issuer: a real one on the loopback, and every way to forge one."""

import base64
import hmac
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fedbus_api.access import oidc
from fedbus_api.settings import OidcSection
from fedbus_runtime.errors import SettingsFault

from tests.oidc_issuer import AUDIENCE, issuing

ROLES = {"fl-admins": "admin", "team-a": "operator@a", "guests": "viewer"}


@pytest.fixture(scope="module")
def issuer():
    with issuing() as running:
        yield running


@pytest.fixture
def world(new_world, issuer):
    made = new_world(token="first")
    section = OidcSection(issuer=issuer.url, audience=AUDIENCE, roles=ROLES)
    made.settings = made.settings.model_copy(update={"oidc": section})
    made.api = made.another()
    return made


async def ask(world, token: str, path: str = "/v1/whoami"):
    async with world.client() as client:
        return await client.get(path, headers={"Authorization": f"Bearer {token}"})


async def test_roles_come_from_the_claim(world, issuer) -> None:
    token = issuer.token(roles=["team-a", "guests", "unknown", 7])
    me = (await ask(world, token)).json()
    assert (me["name"], me["kind"]) == ("ada", "oidc")
    assert sorted((one["role"], one["project"]) for one in me["roles"]) == [
        ("operator", "a"),
        ("viewer", None),
    ]
    assert (await ask(world, token, "/v1/sessions?project=b")).status_code == 200
    assert (await ask(world, token, "/v1/tokens?project=a")).status_code == 403


async def test_somebody_without_roles_may_do_nothing(world, issuer) -> None:
    for claim in (None, [], "nothing", {"fl-admins": True}):
        answer = await ask(world, issuer.token(roles=claim), "/v1/sessions")
        assert answer.status_code == 403, claim


def unsigned(token: str) -> str:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "rsa-1"}).encode())
    return f"{head.decode().rstrip('=')}.{token.split('.')[1]}."


def with_shared_secret(body: str, public: str) -> str:
    """Sign with a public key's bytes as if they were a secret: what a careless verifier takes."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "rsa-1"}).encode())
    said = f"{head.decode().rstrip('=')}.{body}"
    mark = hmac.digest(public.encode(), said.encode(), "sha256")
    return f"{said}.{base64.urlsafe_b64encode(mark).decode().rstrip('=')}"


def forged(issuer, name: str) -> tuple[str, str, str]:
    """Give a token that must not hold, the code, and what the detail must name."""
    now = int(time.time())
    good = issuer.token(roles=["fl-admins"])
    head, body, signature = good.split(".")
    public = json.dumps(issuer.published["rsa-1"])
    issuer.keys["stranger"] = ec.generate_private_key(ec.SECP256R1())
    made = {
        "expired": (issuer.token(exp=now - 120), "token_expired", "sign in again"),
        "of the future": (issuer.token(iat=now + 3600), "unauthorized", "clock"),
        "another audience": (issuer.token(aud="another"), "unauthorized", "udience"),
        "another issuer": (issuer.token(iss="http://evil"), "unauthorized", "ssuer"),
        "without an end": (issuer.token(exp=None), "unauthorized", "exp"),
        "without a subject": (issuer.token(sub=None), "unauthorized", "sub"),
        "unsigned": (unsigned(good), "unauthorized", "hold"),
        "another signature": (f"{head}.{body}.{signature[:-8]}AAAAAAAA", "unauthorized", "hold"),
        "another body": (f"{head}.{body[:-4]}AAAA.{signature}", "unauthorized", "hold"),
        "the public key as a secret": (
            with_shared_secret(body, public),
            "unauthorized",
            "hold",
        ),
        "a stranger's key": (issuer.token(kid="stranger"), "unauthorized", "does not name"),
        "nonsense": ("a.b.c", "unauthorized", "hold"),
        "huge": (f"{head}.{'A' * 20_000}.{signature}", "unauthorized", "needed"),
    }
    return made[name]


@pytest.mark.parametrize(
    "name",
    [
        "expired",
        "of the future",
        "another audience",
        "another issuer",
        "without an end",
        "without a subject",
        "unsigned",
        "another signature",
        "another body",
        "the public key as a secret",
        "a stranger's key",
        "nonsense",
        "huge",
    ],
)
async def test_what_is_forged_does_not_hold(world, issuer, name) -> None:
    token, code, named = forged(issuer, name)
    answer = await ask(world, token)
    assert (answer.status_code, answer.json()["code"]) == (401, code), answer.text
    assert named in answer.json()["detail"]


async def test_a_new_key_is_found_and_strangers_do_not_make_it_ask_again(
    world, issuer, monkeypatch
) -> None:
    assert (await ask(world, issuer.token())).status_code == 200
    before = issuer.fetched
    issuer.new_key("ec-2")
    for _ in range(3):
        assert (await ask(world, issuer.token("ec-2"))).status_code == 401
    assert issuer.fetched == before
    monkeypatch.setattr(oidc, "REFRESH_MIN_S", 0.0)
    assert (await ask(world, issuer.token("ec-2"))).status_code == 200
    assert issuer.fetched == before + 1


async def test_while_the_issuer_is_away_known_keys_hold(new_world) -> None:
    with issuing() as issuer:
        world = new_world(token="first")
        section = OidcSection(issuer=issuer.url, audience=AUDIENCE, roles=ROLES)
        world.settings = world.settings.model_copy(update={"oidc": section})
        world.api = world.another()
        token = issuer.token(roles=["guests"])
        assert (await ask(world, token)).status_code == 200
        cold = world.another()
    assert (await ask(world, token)).status_code == 200
    world.api = cold
    answer = await ask(world, token)
    assert (answer.status_code, answer.json()["code"]) == (503, "retry_later")
    assert (await ask(world, "first")).status_code == 200


async def test_an_issuer_that_calls_itself_otherwise_is_not_believed(new_world) -> None:
    with issuing() as issuer:
        issuer.name = "http://another"
        world = new_world(token="first")
        section = OidcSection(issuer=issuer.url, audience=AUDIENCE, roles=ROLES)
        world.settings = world.settings.model_copy(update={"oidc": section})
        world.api = world.another()
        answer = await ask(world, issuer.token())
        assert answer.status_code == 503
        assert "calls itself" in answer.json()["detail"]


def test_a_role_that_does_not_exist_is_a_fault() -> None:
    with pytest.raises(SettingsFault, match="superuser"):
        oidc.mapping({"x": "superuser"})
