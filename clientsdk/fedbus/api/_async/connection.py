"""One connection to the api: requests with typed answers, pages, answers that are read as they come."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from fedbus_schemas.views import CountView, Page
from pydantic import JsonValue

from fedbus.api._access import Access
from fedbus.api._asked import (
    CONNECT_TIMEOUT_S,
    PAGE_MAX,
    TIMEOUT,
    Filters,
    M,
    Scalar,
    answer,
    away,
    query,
    refused,
)
from fedbus.errors import BadOption


class AsyncConnection:
    """A pool of connections to one api for one project."""

    def __init__(self, access: Access) -> None:
        headers = {"authorization": f"Bearer {access.token}"} if access.token else {}
        self.url = access.url
        try:
            self._http = httpx.AsyncClient(
                base_url=access.url,
                headers=headers,
                params={"project": access.project},
                timeout=TIMEOUT,
                verify=access.verify,
            )
        except httpx.InvalidURL as error:
            raise BadOption(f"{access.url!r} is not the address of an api: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, kind: type[M], path: str, params: Filters | None = None) -> M:
        """Read one thing."""
        return await self._answer(kind, "GET", path, params=query(params or {}))

    async def send(
        self,
        kind: type[M],
        path: str,
        body: Mapping[str, JsonValue] | None = None,
        *,
        method: str = "POST",
        key: str | None = None,
    ) -> M:
        """Change something. With an idempotency key the same may be sent again."""
        headers = {} if key is None else {"idempotency-key": key}
        return await self._answer(kind, method, path, json=body, headers=headers)

    async def delete(self, path: str) -> None:
        """Delete something, where the answer says nothing."""
        await self._response("DELETE", path)

    async def upload(
        self, kind: type[M], path: str, pieces: AsyncIterator[bytes], params: Mapping[str, Scalar]
    ) -> M:
        """Send a file's bytes."""
        return await self._answer(kind, "POST", path, content=pieces, params=params)

    async def rows(
        self,
        kind: type[M],
        path: str,
        filters: Filters | None,
        sort: str | None,
        n_max: int | None,
    ) -> AsyncIterator[M]:
        """Go through a list, page by page, as far as the caller goes."""
        left = n_max
        asked = dict(filters or {})
        if sort:
            asked["sort"] = sort
        while left is None or left > 0:
            asked["limit"] = PAGE_MAX if left is None else min(left, PAGE_MAX)
            page = await self._answer(Page[kind], "GET", path, params=query(asked))  # type: ignore[valid-type]
            for row in page.items:
                yield row
            if page.next is None:
                return
            left = None if left is None else left - len(page.items)
            asked["cursor"] = page.next

    async def count(self, path: str, filters: Filters | None) -> int:
        """Count the rows of a list."""
        found = await self._answer(CountView, "GET", f"{path}/count", params=query(filters or {}))
        return found.count

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        params: Mapping[str, Scalar] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_max_s: float | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Open an answer that is read as it comes. Raises `ApiAway` also while it is read."""
        timeout = TIMEOUT
        if silence_max_s is not None:
            timeout = httpx.Timeout(silence_max_s, connect=CONNECT_TIMEOUT_S)
        try:
            async with self._http.stream(
                "GET", path, params=params, headers=headers, timeout=timeout
            ) as response:
                if not response.is_success:
                    await response.aread()
                    raise refused(response)
                yield response
        except httpx.TransportError as error:
            raise away(self.url, error) from error

    async def _answer(self, kind: type[M], method: str, path: str, **more: object) -> M:
        return answer(kind, await self._response(method, path, **more))

    async def _response(self, method: str, path: str, **more: object) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **more)  # type: ignore[arg-type]
        except httpx.TransportError as error:
            raise away(self.url, error) from error
        if not response.is_success:
            raise refused(response)
        return response
