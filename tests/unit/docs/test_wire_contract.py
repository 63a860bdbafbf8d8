"""The wire contract's page: made from the code, whole, and enough for a client that has nothing else."""

import base64
import importlib.util
import json
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
from fedbus._keys import Keys
from fedbus_schemas import signing
from fedbus_schemas.asks import VERBS, Answer, Synced
from fedbus_schemas.tasks import SignedMail

from tools import generate_wire_contract as contract
from tools import wire_examples

FOREIGN = Path(__file__).parents[3] / "examples/foreign_client"


@pytest.fixture(scope="module")
def page() -> str:
    return contract.PAGE.read_text(encoding="utf-8")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The foreign client's module, which knows nothing of fedbus."""
    monkeypatch.syspath_prepend(str(FOREIGN))
    spec = importlib.util.spec_from_file_location("foreign_client", FOREIGN / "client.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    yield module
    for name in ("ed25519", "tensorfile", "nats_line"):
        sys.modules.pop(name, None)


def test_it_is_up_to_date(page: str) -> None:
    assert page == contract.filled(page), "say: make docs"


def test_every_example_and_table_stands_on_it(page: str) -> None:
    made = set(wire_examples.examples()) - {"signed mail"} | set(contract.TABLES)
    assert made == set(contract.names(page))


def test_every_verb_has_its_row() -> None:
    rows = contract.requests()
    assert [verb for verb in VERBS if f"| `{verb}` |" not in rows] == []


def test_every_answer_that_a_client_may_get_is_shown() -> None:
    shown = [one for one in wire_examples.examples().values() if isinstance(one, Answer)]
    fields = {name for one in shown for name in one.model_dump(exclude_none=True)}
    assert fields == set(Answer.model_fields)


def test_its_signatures_hold() -> None:
    examples, keys = wire_examples.examples(), wire_examples.keys()
    signed = examples["signed mail"]
    assert isinstance(signed, SignedMail)
    assert keys.trusts(signed)
    assert signed.content() == examples["mail"]
    answer = examples["synced"]
    assert isinstance(answer, Answer)
    assert isinstance(answer.synced, Synced)
    assert answer.synced.mail == (signed,)


def test_the_foreign_client_agrees_with_the_page(foreign: ModuleType) -> None:
    shown = {name: json.loads(one.to_bytes()) for name, one in wire_examples.examples().items()}
    theirs, ours = foreign.Keys(shown["credentials"]), wire_examples.keys()
    assert isinstance(ours, Keys)
    assert (theirs.device, theirs.public) == (ours.device, ours.public)
    nonce = wire_examples.NONCE
    assert base64.b64encode(theirs.sign_in(nonce.encode())) == ours.sign_nonce(nonce)
    assert shown["hello"]["proof"] == theirs.sign(foreign.HELLO, theirs.device)
    submission = shown["submission"]
    assert submission["signature"] == theirs.sign(foreign.MANIFEST, submission["manifest"])
    signed = shown["signed mail"]
    assert foreign.ed25519.verify(
        signing.decode(signed["key"]),
        foreign.MAIL + signed["mail"].encode(),
        signing.decode(signed["signature"]),
    )
    model = foreign.tensorfile.read(wire_examples.model_file())
    assert {name: one.shape for name, one in model.items()} == {"b": [2], "w": [1, 2]}
    assert foreign.tensorfile.write(model) == wire_examples.model_file()
    update = base64.b64decode(submission["inline"])
    assert sha256(update).hexdigest() == shown["manifest"]["update"]["digest"]


def test_an_example_that_is_not_made_is_told() -> None:
    with pytest.raises(contract.NoSuchExample, match="nothing of the kind"):
        contract.filled("<!-- made: nothing of the kind -->\n<!-- end -->\n")
