"""Has the running stack's api shut a device out."""

import json
import urllib.error
import urllib.request
from http import HTTPStatus

from fedbus_local.clients import ListedClient
from fedbus_local.errors import LocalError

TIMEOUT_S = 10.0


def revoke(api: str, token: str, client: ListedClient) -> None:
    """Shut a client out: it is cut off at once. Raises `LocalError` when the api does not do it."""
    request = urllib.request.Request(  # noqa: S310  # the api of our own stack
        f"{api}/v1/devices/{client.device}?project={client.project}",
        method="DELETE",
        headers={"Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            if answer.status != HTTPStatus.OK:
                raise LocalError(f"the api answers {answer.status}")
    except urllib.error.HTTPError as error:
        with error:
            detail = json.loads(error.read() or b"{}").get("detail", error.reason)
        raise LocalError(f"the api does not revoke {client.name}: {detail}") from error
    except OSError as error:
        raise LocalError(
            f"{client.name} is revoked by the api, which cannot be reached: {error}; start the stack first"
        ) from error
