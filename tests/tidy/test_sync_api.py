"""Both clients of the api are one code: `_sync` is what the tool makes of `_async`."""

from tools import generate_sync_api


def test_the_synchronous_client_is_the_translation_of_the_other() -> None:
    found = {
        path.name: path.read_text(encoding="utf-8")
        for path in generate_sync_api.TARGET.glob("*.py")
    }
    assert found == generate_sync_api.made(), "say: make schemas"
