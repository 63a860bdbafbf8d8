"""Commands as a client does them: what it answers when the user's function is at fault."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fedbus import Trainer
from fedbus_schemas.commands import AnswerOutcome, CommandAnswer
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.tasks import CommandMail

from tests.unit.clientsdk.services import Services, running, train


def breaks(model: Any, settings: Any) -> Any:
    raise KeyError("no data here")


def command(world: Any, task: str) -> CommandMail:
    return CommandMail.model_validate(
        {
            "project": "demo",
            "command": "cmd-1",
            "number": 1,
            "device": world.keys.device,
            "client": world.client,
            "task": {
                "task": task,
                "model": world.model().model_dump(),
                "deadline": datetime.now(UTC) + timedelta(seconds=60),  # noqa: TID251
                "trace_id": "ab" * 16,
            },
        }
    )


@pytest.mark.parametrize("task", ["validate", "inference"])
async def test_a_function_that_fails_is_named_with_its_own_line(
    services: Services, world: Any, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(train, validate=breaks, predict=breaks)
    with caplog.at_level(logging.ERROR, "fedbus"):
        async with running(services, trainer):
            services.post(command(world, task))
            await services.until(lambda: services.said("answer"))
    answer = CommandAnswer.model_validate_json(services.said("answer")[0])
    assert (answer.outcome, answer.code) == (AnswerOutcome.FAILED, RefusalCode.TASK_FAILED)
    assert "KeyError: 'no data here'" in answer.detail
    assert f'file "{__file__}"' in answer.detail
    assert "raise KeyError" in caplog.text
    assert "_commands.py" not in caplog.text
