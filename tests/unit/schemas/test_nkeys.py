"""The text form of NATS keys against vectors that other implementations made, and against damage."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedbus_schemas.nkeys import BadKey, raw_seed, user_public, user_seed
from hypothesis import given
from hypothesis import strategies as st

SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
"""The example pair of the NATS documentation, which several clients test against."""


def public_of(seed: str) -> str:
    private = Ed25519PrivateKey.from_private_bytes(raw_seed(seed))
    return user_public(private.public_key().public_bytes_raw())


def test_a_known_pair() -> None:
    assert public_of(SEED) == PUBLIC
    assert user_seed(raw_seed(SEED)) == SEED


@given(raw=st.binary(min_size=32, max_size=32))
def test_a_seed_there_and_back(raw: bytes) -> None:
    text = user_seed(raw)
    assert text.startswith("SU")
    assert len(text) == 58
    assert raw_seed(text) == raw
    assert raw_seed(f" {text}\n") == raw


@given(raw=st.binary(min_size=32, max_size=32))
def test_a_public_key_has_its_form(raw: bytes) -> None:
    text = user_public(raw)
    assert text.startswith("U")
    assert len(text) == 56
    assert base64.b32decode(text)[1:-2] == raw


@given(
    raw=st.binary(min_size=32, max_size=32),
    place=st.integers(0, 57),
    other=st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
)
def test_one_wrong_letter_is_seen(raw: bytes, place: int, other: str) -> None:
    text = user_seed(raw)
    spoilt = text[:place] + other + text[place + 1 :]
    if base64.b32decode(spoilt + "======") == base64.b32decode(text + "======"):
        return  # the last letter holds two bits that mean nothing
    with pytest.raises(BadKey):
        raw_seed(spoilt)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SU",
        "not a key",
        "su" + "a" * 56,
        PUBLIC,
        SEED[:-1],
        SEED + "A",
        # An account's seed: valid, but not a user's.
        "SAANWFZ3JINNPERWT3ALE45U7GYT2ZDW6GJUIVPDKUF6GKAX6AISZJMAS4",
    ],
    ids=["empty", "prefix", "blanks", "small", "public", "short", "long", "account"],
)
def test_what_is_no_users_seed(text: str) -> None:
    with pytest.raises(BadKey) as told:
        raw_seed(text)
    assert len(text) < 10 or text not in str(told.value)
