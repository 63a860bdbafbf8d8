"""A client process, to be killed: `python -m tests.chaos.site CREDENTIALS STATE_DIR HOLD_ROUND`.

Says `training ROUND` on its standard output whenever it trains. In `HOLD_ROUND` it then waits until its
standard input ends.
"""

import sys

import fedbus

from tests.trainers import train, validate

credentials, state_dir, hold_round = sys.argv[1], sys.argv[2], int(sys.argv[3])


def train_slowly(
    model: fedbus.Model, settings: fedbus.Settings
) -> tuple[fedbus.Model, int, dict[str, float]]:
    print(f"training {settings.round}", flush=True)
    if settings.round == hold_round:
        sys.stdin.read()
    return train(model, settings)


fedbus.run(train=train_slowly, validate=validate, credentials=credentials, state_dir=state_dir)
