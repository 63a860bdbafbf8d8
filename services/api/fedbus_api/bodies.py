"""Uploaded bytes, taken in up to a limit."""

from collections.abc import AsyncIterable

from fedbus_schemas.refusals import RefusalCode

from fedbus_api.problems import Problem


async def receive(body: AsyncIterable[bytes], bytes_max: int, kind: str, setting: str) -> bytearray:
    """Take in a whole body. Raises `Problem` when it is longer than `bytes_max`, which `setting` names."""
    content = bytearray()
    async for part in body:
        content += part
        if len(content) > bytes_max:
            raise Problem(
                RefusalCode.TOO_LARGE, f"a {kind} has {bytes_max} bytes at most ({setting})"
            )
    return content
