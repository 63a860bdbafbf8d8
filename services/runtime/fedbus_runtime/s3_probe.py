"""Asks the object store at every start whether it does what the design rests on, and refuses it if not.

Create-only PUT (or a second upload could replace a model), enforced SHA-256 (or a grant would allow any
bytes), and range reads (or a median could not be folded block by block).
"""

import hashlib
import secrets

from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.s3_blobs import S3Blobs

PROBE_BYTES = 1024
RANGE = (100, 50)

_EXISTS = 412


async def probe(blobs: S3Blobs) -> None:
    """Make the bucket and try the store out.

    Raises `SettingsFault` that names what the store lacks, `StoreAway` when it does not answer.
    """
    await blobs.make_bucket()
    content = secrets.token_bytes(PROBE_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    other = hashlib.sha256(digest.encode()).hexdigest()
    key, wrong = f"probe/{digest}", f"probe/{other}"
    try:
        await blobs.put(key, [content])
        lacks = []
        if await blobs.try_put(key, content) != _EXISTS:
            lacks.append("create-only PUT (If-None-Match: *)")
        await blobs.try_put(wrong, content)
        if await blobs.size(wrong) is not None:
            lacks.append("enforced checksums (x-amz-checksum-sha256)")
        start, length = RANGE
        if await blobs.get_range(key, start, length) != content[start : start + length]:
            lacks.append("range reads")
    finally:
        await blobs.delete([key, wrong])
    if lacks:
        raise SettingsFault(
            f"the object store at FEDBUS_S3__ENDPOINT lacks {', '.join(lacks)}: "
            "take MinIO, SeaweedFS or another store that has them"
        )
