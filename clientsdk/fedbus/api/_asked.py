"""What is asked of the api and what its answers mean, without any I/O."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TypeAlias, TypeVar

import httpx
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.wire import Message
from pydantic import ValidationError

from fedbus.api.errors import ApiAway, ApiError, BadAnswer

CONNECT_TIMEOUT_S = 10.0
TIMEOUT = httpx.Timeout(60.0, connect=CONNECT_TIMEOUT_S)
PAGE_MAX = 500
"""The most rows that the api gives in one page."""

Scalar: TypeAlias = str | int | float | bool
Filters: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]
"""Filters of a list, as `{"phase": "running", "metrics.loss__lt": 0.1}`; docs/api.md has the operators."""
M = TypeVar("M", bound=Message)


def query(asked: Filters) -> list[tuple[str, str]]:
    """Write filters as the query has them; several values of one field stand one after the other."""
    found: list[tuple[str, str]] = []
    for name, value in asked.items():
        several = [value] if isinstance(value, str | int | float) else value
        found += [(name, one if isinstance(one, str) else json.dumps(one)) for one in several]
    return found


def with_fields(filters: Filters | None, **given: Scalar | None) -> Filters:
    """Add the fields that were named to the filters."""
    named = {name: value for name, value in given.items() if value is not None}
    return {**(filters or {}), **named}


def answer(kind: type[M], response: httpx.Response) -> M:
    """Give what the api answered. Raises `BadAnswer` if it is something else."""
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise BadAnswer(f"{response.url}: {error.errors()[0]['msg']}") from error


def refused(response: httpx.Response) -> ApiError:
    """Make an error of an answer that is none."""
    status = response.status_code
    try:
        problem = read(_Problem, response.content)
    except Unreadable:
        text = f"{response.url}: HTTP {status}"
        away = status >= HTTPStatus.BAD_GATEWAY
        return ApiAway(text, status) if away else BadAnswer(text, status)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return ApiAway(problem.detail, status)
    return ApiError(problem.code, problem.detail, status, problem.title)


def away(url: str, error: httpx.TransportError) -> ApiAway:
    """Make an error of an api that does not answer."""
    return ApiAway(f"{url} does not answer: {error or type(error).__name__}")


class _Problem(Message):
    """A problem as we read it: also a code that we do not know yet."""

    code: str
    title: str
    detail: str = ""
