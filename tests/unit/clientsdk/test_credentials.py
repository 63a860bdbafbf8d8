"""A credentials file is for its owner only, and an error never repeats a secret."""

import os
from pathlib import Path
from typing import Any

import pytest
from fedbus import BadCredentials
from fedbus._keys import Keys
from fedbus.credentials import load
from fedbus_schemas import nkeys, signing


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_good_file_is_loaded(tmp_path: Path, world: Any) -> None:
    path = write(tmp_path / "client.json", world.credentials.to_bytes())
    assert load(path) == world.credentials
    assert load(str(path)) == world.credentials


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadCredentials, match=r"cannot read the credentials .*No such file"):
        load(tmp_path / "client.json")


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX thing")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, world: Any, mode: int) -> None:
    path = write(tmp_path / "client.json", world.credentials.to_bytes(), mode)
    with pytest.raises(BadCredentials, match="chmod 600"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b" " * 70_000])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadCredentials, match=r"client\.json"):
        load(write(tmp_path / "client.json", content))


@pytest.mark.parametrize("field", ["device_seed", "payload_seed"])
def test_a_damaged_secret_is_not_repeated(tmp_path: Path, world: Any, field: str) -> None:
    secret = getattr(world.credentials, field)
    damaged = secret[:-1] + ("A" if secret[-1] != "A" else "B") + ("!" if field[0] == "p" else "")
    content = world.credentials.to_bytes().replace(secret.encode(), damaged.encode())
    with pytest.raises(BadCredentials) as caught:
        load(write(tmp_path / "client.json", content))
    told: BaseException | None = caught.value
    while told is not None:
        assert damaged[:20] not in str(told) or told.__suppress_context__
        assert damaged[:20] not in str(caught.value)
        told = told.__cause__


def test_the_public_keys_fit_the_seeds(world: Any) -> None:
    keys = world.keys
    assert keys.device.startswith("U")
    assert len(keys.device) == 56
    assert nkeys.raw_seed(world.credentials.device_seed) == bytes([2]) * 32


def test_a_trust_key_that_is_none_is_refused(world: Any) -> None:
    broken = world.credentials.model_copy(update={"trust": (signing.encode(b"\xff" * 32),)})
    with pytest.raises(BadCredentials, match="trust"):
        Keys(broken)
