"""One connection to the api: requests with typed answers, pages, the event stream."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from ssl import SSLContext
from typing import TypeAlias, TypeVar

import httpx
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.views import CountView, Page
from fedbus_schemas.wire import Message
from pydantic import JsonValue, ValidationError

from fedbus.api._access import Access
from fedbus.api.errors import ApiAway, ApiError, BadAnswer
from fedbus.errors import BadOption

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
PAGE_MAX = 500
"""The most rows that the api gives in one page."""

Scalar: TypeAlias = str | int | float | bool
Filters: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]
"""Filters of a list, as `{"phase": "running", "metrics.loss__lt": 0.1}`; docs/api.md has the operators."""
M = TypeVar("M", bound=Message)


class Connection:
    """A pool of connections to one api for one project. Safe to share between threads."""

    def __init__(self, access: Access, project: str, verify: bool | SSLContext) -> None:
        headers = {"authorization": f"Bearer {access.token}"} if access.token else {}
        self.url = access.url
        try:
            self._http = httpx.Client(
                base_url=access.url,
                headers=headers,
                params={"project": project},
                timeout=TIMEOUT,
                verify=verify,
            )
        except httpx.InvalidURL as error:
            raise BadOption(f"{access.url!r} is not the address of an api: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, kind: type[M], path: str, params: Filters | None = None) -> M:
        """Read one thing."""
        return self._answer(kind, "GET", path, params=_query(params or {}))

    def send(
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
        return self._answer(kind, method, path, json=body, headers=headers)

    def upload(self, kind: type[M], path: str, pieces: Iterator[bytes], name: str) -> M:
        """Send a file's bytes."""
        return self._answer(kind, "POST", path, content=pieces, params={"name": name})

    def rows(
        self,
        kind: type[M],
        path: str,
        filters: Filters | None,
        sort: str | None,
        n_max: int | None,
    ) -> Iterator[M]:
        """Go through a list, page by page, as far as the caller goes."""
        left = n_max
        asked: dict[str, Scalar | Sequence[Scalar]] = dict(filters or {})
        if sort:
            asked["sort"] = sort
        while left is None or left > 0:
            asked["limit"] = PAGE_MAX if left is None else min(left, PAGE_MAX)
            page = self._answer(Page[kind], "GET", path, params=_query(asked))  # type: ignore[valid-type]
            yield from page.items
            if page.next is None:
                return
            left = None if left is None else left - len(page.items)
            asked["cursor"] = page.next

    def count(self, path: str, filters: Filters | None) -> int:
        """Count the rows of a list."""
        return self._answer(CountView, "GET", f"{path}/count", params=_query(filters or {})).count

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        params: Mapping[str, Scalar] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_max_s: float | None = None,
    ) -> Iterator[httpx.Response]:
        """Open an answer that is read as it comes. Raises `ApiAway` also while it is read."""
        timeout = TIMEOUT if silence_max_s is None else httpx.Timeout(silence_max_s, connect=10.0)
        try:
            with self._http.stream(
                "GET", path, params=params, headers=headers, timeout=timeout
            ) as response:
                if not response.is_success:
                    response.read()
                    raise _error(response)
                yield response
        except httpx.TransportError as error:
            raise self._away(error) from error

    def _answer(self, kind: type[M], method: str, path: str, **more: object) -> M:
        try:
            response = self._http.request(method, path, **more)  # type: ignore[arg-type]
        except httpx.TransportError as error:
            raise self._away(error) from error
        if not response.is_success:
            raise _error(response)
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise BadAnswer(f"{self.url}{path}: {error.errors()[0]['msg']}") from error

    def _away(self, error: httpx.TransportError) -> ApiAway:
        return ApiAway(f"{self.url} does not answer: {error or type(error).__name__}")


class _Problem(Message):
    """A problem as we read it: also a code that we do not know yet."""

    code: str
    title: str
    detail: str = ""


def _error(response: httpx.Response) -> ApiError:
    status = response.status_code
    try:
        problem = read(_Problem, response.content)
    except Unreadable:
        text = f"{response.url}: HTTP {status}"
        return (
            ApiAway(text, status) if status >= HTTPStatus.BAD_GATEWAY else BadAnswer(text, status)
        )
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return ApiAway(problem.detail, status)
    return ApiError(problem.code, problem.detail, status, problem.title)


def _query(asked: Filters) -> list[tuple[str, str]]:
    """Write filters as the query has them; several values of one field stand one after the other."""
    found: list[tuple[str, str]] = []
    for name, value in asked.items():
        several = [value] if isinstance(value, str | int | float) else value
        found += [(name, one if isinstance(one, str) else json.dumps(one)) for one in several]
    return found
