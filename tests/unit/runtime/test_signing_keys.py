"""Signing keys: a signature fits one key, one domain and one content."""

import secrets
from pathlib import Path

import pytest
from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.signing_keys import Signer, verify
from fedbus_schemas import signing


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    file = tmp_path / "signing.seed"
    file.write_text(signing.encode(secrets.token_bytes(32)) + "\n")
    return Signer(file)


def test_verifies_what_was_signed(signer: Signer) -> None:
    signature = signer.sign(signing.MAIL, "content")
    assert verify(signer.public, signing.MAIL, "content", signature)


def test_refuses_anything_else(signer: Signer) -> None:
    signature = signer.sign(signing.MAIL, "content")
    assert not verify(signer.public, signing.HEAD, "content", signature)
    assert not verify(signer.public, signing.MAIL, "contend", signature)
    assert not verify(signing.encode(bytes(32)), signing.MAIL, "content", signature)
    for broken in ("", "é", "A" * 86, signature[:-3]):
        assert not verify(signer.public, signing.MAIL, "content", broken)
        assert not verify(broken, signing.MAIL, "content", signature)


@pytest.mark.parametrize("text", ["short", "!" * 43, "A" * 44])
def test_a_file_without_a_seed_is_a_fault(tmp_path: Path, text: str) -> None:
    file = tmp_path / "signing.seed"
    file.write_text(text)
    with pytest.raises(SettingsFault, match="signing seed"):
        Signer(file)
