"""A client process whose memory is measured: `python -m tests.e2e.memory_site CREDENTIALS STATE CACHE`."""

import sys

# Not installed with the SDK, but here for other things; where it is, Crypto loads it and takes 5 MB more.
sys.modules["cffi"] = None  # type: ignore[assignment]
# The extra `websocket`, which nats-py loads where it is.
sys.modules["aiohttp"] = None  # type: ignore[assignment]

import fedbus  # noqa: E402


def train(
    model: fedbus.Model, settings: fedbus.Settings
) -> tuple[fedbus.Model, int, dict[str, float]]:
    for tensor in model.values():
        tensor += 1
    return model, 10, {"loss": 1 / settings.round}


def validate(model: fedbus.Model, settings: fedbus.Settings) -> tuple[int, dict[str, float]]:
    return 10, {"mean": float(model["w0"].mean())}


credentials, state_dir, cache_dir = sys.argv[1:4]
fedbus.run(
    train=train,
    validate=validate,
    credentials=credentials,
    state_dir=state_dir,
    cache_dir=cache_dir,
)
