"""The accounts' tokens, as the servers keep them: looked up and replaced through the system account.

A connection of its own for each call: it happens when a device is revoked, and the right to it is held no
longer than that.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fedbus_runtime.errors import BusAway, BusRefused
from fedbus_runtime.nats_connection import NatsConnection, NatsOptions

UPDATE = "$SYS.REQ.CLAIMS.UPDATE"


class NatsAccounts:
    """The port `Accounts` over a server in operator mode."""

    def __init__(self, options: NatsOptions) -> None:
        self._options = options

    async def token(self, account: str) -> str:
        """Give an account's token; see `ports.Accounts`."""
        async with self._connected() as connection:
            answer = await connection.ask(f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"")
        if not answer.data:
            raise BusRefused(f"the server knows no account {account}")
        text: bytes = answer.data
        return text.decode()

    async def replace(self, token: str) -> None:
        """Put a newer token in an account's place; see `ports.Accounts`."""
        async with self._connected() as connection:
            answer = await connection.ask(UPDATE, token.encode())
        try:
            content = json.loads(answer.data)
        except ValueError as error:
            raise BusAway("the answer to an account's new token cannot be read") from error
        if "error" in content:
            raise BusRefused(f"the server does not take the account's token: {content['error']}")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[NatsConnection]:
        connection = await NatsConnection.open(self._options)
        try:
            yield connection
        finally:
            await connection.close()
