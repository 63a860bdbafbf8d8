"""What routes that take and give files share, and how something new is answered."""

from typing import Any

from fastapi import Response

MEDIA_TYPE = "application/octet-stream"
CONTENT: dict[str, Any] = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
"""A file, for the OpenAPI document."""
BODY: dict[str, Any] = {"requestBody": {"required": True, "content": CONTENT}}


def made(response: Response, place: str, *, is_new: bool) -> None:
    """Answer 201 for what is new and 200 for what was there, and say where it is."""
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = place
