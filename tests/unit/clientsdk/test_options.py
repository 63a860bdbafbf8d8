"""Options and functions are checked before anything is sent."""

from typing import Any

import pytest
from fedbus import BadOption, Options, Settings, Trainer


@pytest.mark.parametrize(
    "wrong",
    [
        {"credentials": None},
        {"state_dir": 3},
        {"cache_dir": 3},
        {"kept_updates_max": 0},
        {"kept_updates_max": 65},
        {"kept_updates_max": True},
        {"cached_models_max": 0},
        {"model_bytes_max": 0},
        {"ask_timeout_s": 0},
        {"ask_timeout_s": "5"},
        {"patience_s": -1},
        {"backoff_min_s": 0},
        {"backoff_min_s": 2, "backoff_max_s": 1},
        {"resync_s": float("nan")},
    ],
    ids=str,
)
def test_an_impossible_option_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match=list(wrong)[-1]):
        Options(**{"credentials": "client.json"} | wrong)


def test_secrets_are_not_shown(world: Any) -> None:
    assert world.credentials.device_seed not in repr(Options(credentials=world.credentials))


def test_functions_must_be_functions() -> None:
    with pytest.raises(BadOption, match="train must be"):
        Trainer(3)  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="validate must be"):
        Trainer(print, 3)  # type: ignore[arg-type]


def test_settings_are_a_read_only_mapping() -> None:
    settings = Settings({"lr": 0.5}, seed=3, round=2)
    assert dict(settings) == {"lr": 0.5}
    assert len(settings) == 1
    assert settings.get("epochs", 1) == 1
    assert not settings.cancelled()
    assert repr(settings) == "Settings({'lr': 0.5}, session='local', round=2, seed=3)"
    with pytest.raises(TypeError):
        settings["lr"] = 1  # type: ignore[index]
    with pytest.raises(AttributeError):
        settings.seed = 4  # type: ignore[misc]
