"""Asks one URL and ends with 0 if it answers 200: a container's health check, without a shell or curl.

`python -m fedbus_runtime.healthcheck http://127.0.0.1:8081/readyz`
"""

import http.client
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 2.0


def main(arguments: list[str]) -> int:
    """Give the exit code: 0 ready, 1 not, 2 wrong usage; what was answered goes to standard output."""
    if len(arguments) != 1 or not arguments[0].startswith("http://"):
        print("usage: python -m fedbus_runtime.healthcheck http://HOST:PORT/PATH", file=sys.stderr)
        return 2
    address = urlsplit(arguments[0])
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", address.path or "/")
        answer = connection.getresponse()
        print(answer.read().decode(errors="replace").strip())
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {error}")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
