"""Clients as the registry knows them, by a letter."""

from datetime import datetime

from fedbus_schemas.registry import ClientRecord


def client(letter: str, since: datetime) -> ClientRecord:
    return ClientRecord(
        device="U" + letter.upper() * 55,
        client="c" + letter * 16,
        name=letter,
        key="k" * 43,
        since=since,
    )
