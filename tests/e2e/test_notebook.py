"""The example notebook, cell by cell in a kernel of its own: it trains a model and draws what came of it."""

import asyncio
from pathlib import Path

import nbformat
import pytest
from fedbus.api import APIClient
from fedbus_local.stack import LocalStack
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "04_from_zero_to_a_model.ipynb"


async def test_the_notebook_goes_from_zero_to_a_trained_model(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDBUS_DIR", str(stack.layout.root))
    notebook = nbformat.read(NOTEBOOK, 4)
    await NotebookClient(notebook, timeout=60, kernel_name="python3").async_execute()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    pictures = [one for one in outputs if "image/png" in one.get("data", {})]
    assert len(pictures) == 2
    assert await asyncio.to_thread(_accuracy, stack) > 0.85


def _accuracy(stack: LocalStack) -> float:
    with APIClient(stack.api_url, token=stack.api_token, project="digits") as api:
        first, second = api.get_sessions(sort="created")
        assert (first.name, first.phase, first.rounds_completed) == ("digits", "completed", 6)
        assert (second.name, second.phase, second.rounds_completed) == ("branch", "completed", 3)
        trail = [one.digest for one in api.get_model_trail(second.model)]
        assert second.initial_model == trail[3]
        return api.get_round(first.session, 6).attempts[-1].validation.metrics["accuracy"]
