"""Server functions: an operator's own code, stored by its SHA-256 and looked at, never run here."""

import asyncio

from fedbus_core.aggregation.server_functions import SOURCE_BYTES_MAX, SourceError, methods_of
from fedbus_runtime.errors import BlobMissing
from fedbus_runtime.ports import Blobs
from fedbus_schemas import keys
from fedbus_schemas.codec import digest
from fedbus_schemas.ids import ProjectId, Sha256
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import MAKES_MODELS, ServerFunctions, ServerMethod

from fedbus_api.problems import Problem

_RUN = MAKES_MODELS | {ServerMethod.GET_INCREMENTAL_AGGREGATE_MODEL}


class Functions:
    """Takes sources in and gives them back."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def keep(self, project: ProjectId, source: bytes) -> ServerFunctions:
        """Store a source; give what a session's `functions` is. Raises `Problem` for what is none."""
        methods = await asyncio.to_thread(_methods, source)
        found = digest(source)
        await self._blobs.put(keys.server_functions(project, found), [source])
        return ServerFunctions(code=BlobRef(digest=found, size=len(source)), methods=methods)

    async def known(self, project: ProjectId, functions: ServerFunctions) -> ServerFunctions:
        """Give back a session's `functions`. Raises `Problem` unless they are those of a stored source."""
        source = await self.source(project, functions.code.digest)
        methods = await asyncio.to_thread(_methods, source)
        if (methods, len(source)) != (functions.methods, functions.code.size):
            detail = f"body.functions: the stored code has {len(source)} bytes and defines {', '.join(methods)}"
            raise Problem(RefusalCode.INVALID, detail)
        return functions

    async def source(self, project: ProjectId, code: Sha256) -> bytes:
        """Give a stored source. Raises `Problem`."""
        try:
            return bytes(
                await self._blobs.get(keys.server_functions(project, code), SOURCE_BYTES_MAX)
            )
        except BlobMissing as error:
            detail = f"server functions {code} in project {project}"
            raise Problem(RefusalCode.NOT_FOUND, detail) from error


def _methods(source: bytes) -> tuple[ServerMethod, ...]:
    try:
        methods = methods_of(source)
    except SourceError as error:
        raise Problem(RefusalCode.INVALID, f"server_functions: {error}") from error
    other = [one for one in methods if one not in _RUN]
    if other:
        raise Problem(RefusalCode.NOT_SUPPORTED, f"server_functions: {', '.join(other)}")
    return methods
