"""Presigned requests against the object store's public endpoint. Pure: nothing is asked of the store.

An upload binds length, SHA-256 and `If-None-Match: *` as signed headers: another body, another length or
a second upload is refused by the store itself.
"""

from datetime import datetime, timedelta

from fedbus_schemas.ids import Sha256

from fedbus_runtime.ports import SignedUrl
from fedbus_runtime.s3_signing import S3Place, checksum_header, presigned_url


class S3Grants:
    """`ports.Grants` for S3. `place` is the public endpoint: the signature covers the host."""

    def __init__(self, place: S3Place) -> None:
        self._place = place

    def upload(
        self, key: str, digest: Sha256, size: int, now: datetime, lifetime_s: int
    ) -> SignedUrl:
        """Allow one create-only PUT; see `ports.Grants`."""
        headers = {
            "content-length": str(size),
            "if-none-match": "*",
            "x-amz-checksum-sha256": checksum_header(digest),
        }
        return self._signed("PUT", key, headers, now, lifetime_s)

    def download(self, key: str, now: datetime, lifetime_s: int) -> SignedUrl:
        """Allow reading one blob; see `ports.Grants`."""
        return self._signed("GET", key, {}, now, lifetime_s)

    def _signed(
        self, method: str, key: str, headers: dict[str, str], now: datetime, lifetime_s: int
    ) -> SignedUrl:
        return SignedUrl(
            method=method,
            url=presigned_url(self._place, method, key, headers, now, lifetime_s),
            headers=headers,
            expires=now + timedelta(seconds=lifetime_s),
        )
