"""Settings from the environment: what is misspelt is named, what is secret is hidden."""

import json
from pathlib import Path

import pytest
from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.settings import (
    ServiceSettings,
    print_settings,
    read_secret,
    variables,
)
from pydantic import Field


class OwnSettings(ServiceSettings):
    """A service's settings."""

    work_concurrency: int = Field(default=2, ge=1, description="Items side by side.")
    token: str = Field(default="", description="A secret.")


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _ in variables(OwnSettings):
        monkeypatch.delenv(name, raising=False)


def test_defaults_need_no_environment() -> None:
    settings = ServiceSettings.load()
    assert settings.nats.urls == ("nats://127.0.0.1:4222",)
    assert settings.instance


def test_reads_nested_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDBUS_INSTANCE", "combiner-1")
    monkeypatch.setenv("FEDBUS_NATS__URL", "nats://a:1, nats://b:2")
    monkeypatch.setenv("FEDBUS_S3__SECRET_KEY_FILE", "/run/secrets/s3")
    monkeypatch.setenv("FEDBUS_WORK_CONCURRENCY", "7")
    settings = OwnSettings.load()
    assert settings.instance == "combiner-1"
    assert settings.nats.urls == ("nats://a:1", "nats://b:2")
    assert settings.s3.secret_key_file == Path("/run/secrets/s3")
    assert settings.work_concurrency == 7


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("FEDBUS_NATS_URL", "FEDBUS_NATS__URL"),
        ("FEDBUS_S3__SECRET_KEY", "FEDBUS_S3__SECRET_KEY_FILE"),
        ("FEDBUS_WORK_CONCURENCY", "FEDBUS_WORK_CONCURRENCY"),
    ],
)
def test_names_what_is_misspelt(monkeypatch: pytest.MonkeyPatch, name: str, near: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsFault, match=f"{name} is no setting; did you mean {near}"):
        OwnSettings.load()


def test_names_every_wrong_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDBUS_NATS__REPLICAS", "9")
    monkeypatch.setenv("FEDBUS_S3__ENDPOINT", "store:9000")
    with pytest.raises(SettingsFault) as fault:
        OwnSettings.load()
    assert "FEDBUS_NATS__REPLICAS" in str(fault.value)
    assert "FEDBUS_S3__ENDPOINT" in str(fault.value)


def test_printing_hides_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDBUS_S3__ACCESS_KEY", "the-access-key")
    monkeypatch.setenv("FEDBUS_TOKEN", "the-token")
    text = print_settings(OwnSettings.load())
    assert "the-" not in text
    assert json.loads(text)["work_concurrency"] == 2


def test_refuses_to_start_without_secrets_but_in_development(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SettingsFault) as fault:
        OwnSettings.load().demand_secure()
    for name in ("NATS__SEED_FILE", "REDIS__PASSWORD_FILE", "S3__SECRET_KEY_FILE", "DEVELOPMENT"):
        assert f"FEDBUS_{name}" in str(fault.value)
    for name, content in (
        ("NATS__SEED_FILE", "SU-something"),
        ("REDIS__PASSWORD_FILE", "a long one"),
        ("S3__SECRET_KEY_FILE", "minioadmin\n"),
    ):
        file = tmp_path / name
        file.write_text(content)
        monkeypatch.setenv(f"FEDBUS_{name}", str(file))
    with pytest.raises(SettingsFault, match=r"S3__SECRET_KEY_FILE.*everybody knows"):
        OwnSettings.load().demand_secure()
    monkeypatch.setenv("FEDBUS_DEVELOPMENT", "true")
    OwnSettings.load().demand_secure()


def test_every_variable_is_described() -> None:
    described = dict(variables(OwnSettings))
    assert "FEDBUS_HEALTH__PORT" in described
    assert all(described.values())


def test_a_secret_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with pytest.raises(SettingsFault, match="secret"):
        read_secret(file)
    file.write_text("  \n")
    with pytest.raises(SettingsFault, match="empty"):
        read_secret(file)
    file.write_text("hidden\n")
    assert read_secret(file) == "hidden"
