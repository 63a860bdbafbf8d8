"""AWS Signature Version 4 for S3: signed headers and presigned URLs, as pure functions of their arguments.

Source: the S3 API reference, "Authenticating Requests (AWS Signature Version 4)". The body is never part
of the signature (`UNSIGNED-PAYLOAD`): for uploads the signed header `x-amz-checksum-sha256` binds it, and
the store is made to enforce that at every start (`s3_probe.py`).
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlsplit

from fedbus_schemas.ids import Sha256

UNSIGNED = "UNSIGNED-PAYLOAD"
ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket at an endpoint (`http(s)://host[:port]`), addressed by path, with the keys to it."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    @property
    def host(self) -> str:
        """The Host header, as HTTP clients send it: without the scheme's usual port."""
        parts = urlsplit(self.endpoint)
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        name = parts.hostname or ""
        name = f"[{name}]" if ":" in name else name
        return name if parts.port in {None, usual} else f"{name}:{parts.port}"

    def path(self, key: str) -> str:
        """A key's escaped path."""
        prefix = urlsplit(self.endpoint).path.rstrip("/")
        return prefix + quote(f"/{self.bucket}/{key}", safe="/-_.~")

    def url(self, key: str) -> str:
        """A key's address."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{self.host}{self.path(key)}"


def checksum_header(digest: Sha256) -> str:
    """Write a digest as `x-amz-checksum-sha256` has it."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def signed_headers(
    place: S3Place, method: str, key: str, headers: Mapping[str, str], now: datetime
) -> dict[str, str]:
    """Give `headers` (lower case) completed and signed, to be sent as they are."""
    complete = {
        **headers,
        "host": place.host,
        "x-amz-date": _stamp(now),
        "x-amz-content-sha256": UNSIGNED,
    }
    signature = _signature(place, now, _canonical(method, place.path(key), "", complete))
    complete["authorization"] = (
        f"{ALGORITHM} Credential={place.access_key}/{_scope(place, now)}, "
        f"SignedHeaders={_names(complete)}, Signature={signature}"
    )
    return complete


def presigned_url(
    place: S3Place,
    method: str,
    key: str,
    headers: Mapping[str, str],
    now: datetime,
    lifetime_s: int,
) -> str:
    """Give a URL that allows one request with exactly these `headers` (lower case) and the host."""
    complete = {**headers, "host": place.host}
    query = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{place.access_key}/{_scope(place, now)}",
        "X-Amz-Date": _stamp(now),
        "X-Amz-Expires": str(lifetime_s),
        "X-Amz-SignedHeaders": _names(complete),
    }
    text = "&".join(f"{_escape(name)}={_escape(query[name])}" for name in sorted(query))
    signature = _signature(place, now, _canonical(method, place.path(key), text, complete))
    return f"{place.url(key)}?{text}&X-Amz-Signature={signature}"


def _canonical(method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers))
    return "\n".join([method, path, query, lines, _names(headers), UNSIGNED])


def _signature(place: S3Place, now: datetime, canonical: str) -> str:
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([ALGORITHM, _stamp(now), _scope(place, now), digest])
    key = f"AWS4{place.secret_key}".encode()
    for part in (f"{now:%Y%m%d}", place.region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _scope(place: S3Place, now: datetime) -> str:
    return f"{now:%Y%m%d}/{place.region}/s3/aws4_request"


def _stamp(now: datetime) -> str:
    return f"{now:%Y%m%dT%H%M%SZ}"


def _names(headers: Mapping[str, str]) -> str:
    return ";".join(sorted(headers))


def _escape(text: str) -> str:
    return quote(text, safe="-_.~")
