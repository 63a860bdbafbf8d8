"""As much of the NATS client protocol as a client of fedbus needs: one connection, requests, one subscription.

Blocking and single-threaded; TCP or TLS.
"""

import base64
import json
import secrets
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

CONNECT_WITHIN_S = 5.0
ANSWER_WITHIN_S = 5.0
PORT = 4222


class Lost(Exception):
    """The connection is gone, or was refused."""


class Line:
    """A connection of the device with this `token`. `sign` signs the challenge with its key."""

    def __init__(
        self,
        server: str,
        device: str,
        token: str,
        sign: Callable[[bytes], bytes],
        ca: str | None = None,
    ) -> None:
        place = urlsplit(server)
        host, port = place.hostname or "localhost", place.port or PORT
        try:
            self._socket = socket.create_connection((host, port), CONNECT_WITHIN_S)
            if place.scheme == "tls":  # from the first byte on
                trust = ssl.create_default_context(cadata=ca)
                self._socket = trust.wrap_socket(self._socket, server_hostname=host)
        except OSError as error:
            raise Lost(f"{server}: {error}") from error
        self._rest = b""
        self._mail: deque[bytes] = deque()
        self._answers: dict[str, bytes | None] = {}
        self._inbox = f"_INBOX.{device}.{secrets.token_hex(8)}"
        self._asked = 0
        told = json.loads(self._line(ANSWER_WITHIN_S).removeprefix(b"INFO "))
        self._greet(token, base64.urlsafe_b64encode(sign(told["nonce"].encode())))
        self._send(f"SUB {self._inbox}.* 1\r\n".encode())

    def hear(self, subject: str) -> None:
        """Take what is published here as mail; `wait` gives it."""
        self._send(f"SUB {subject} 2\r\n".encode())

    def ask(self, subject: str, content: bytes) -> bytes | None:
        """Ask once. None: nobody serves it now, or no answer came in time."""
        self._asked += 1
        reply = f"{self._inbox}.{self._asked}"
        self._send(f"PUB {subject} {reply} {len(content)}\r\n".encode() + content + b"\r\n")
        until = time.monotonic() + ANSWER_WITHIN_S
        while reply not in self._answers:
            if not self._read_one(until - time.monotonic()):
                return None
        return self._answers.pop(reply)

    def wait(self, seconds: float) -> bytes | None:
        """Give the next mail; None when none came in this time."""
        until = time.monotonic() + seconds
        while not self._mail:
            if not self._read_one(until - time.monotonic()):
                return None
        return self._mail.popleft()

    def close(self) -> None:
        """Close."""
        self._socket.close()

    def _greet(self, token: str, signature: bytes) -> None:
        options = {
            "jwt": token,
            "sig": signature.rstrip(b"=").decode(),
            "verbose": False,
            "pedantic": False,
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            "lang": "foreign",
            "version": "1",
        }
        self._send(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
        said = self._line(ANSWER_WITHIN_S)
        if said != b"PONG":
            raise Lost(said.decode())

    def _read_one(self, seconds: float) -> bool:
        """Read one operation of the server's; False when none came in this time."""
        if seconds <= 0:
            return False
        line = self._line(seconds)
        if not line:
            return False
        name, _, rest = line.partition(b" ")
        match name:
            case b"PING":
                self._send(b"PONG\r\n")
            case b"MSG":  # MSG <subject> <sid> [reply] <bytes>
                words = rest.split()
                self._take(words[0].decode(), self._exactly(int(words[-1])))
            case b"HMSG":  # HMSG <subject> <sid> [reply] <header bytes> <bytes>
                words = rest.split()
                head, total = int(words[-2]), int(words[-1])
                content = self._exactly(total)
                nobody = content[:head].startswith(b"NATS/1.0 503")
                self._take(words[0].decode(), None if nobody else content[head:])
            case b"-ERR":
                raise Lost(rest.decode())
        return True

    def _take(self, subject: str, content: bytes | None) -> None:
        if subject.startswith(self._inbox):
            self._answers[subject] = content
        elif content is not None:
            self._mail.append(content)

    def _line(self, seconds: float) -> bytes:
        """Give the next line; b"" when none came in this time."""
        while b"\r\n" not in self._rest:
            if not self._receive(seconds):
                return b""
        line, self._rest = self._rest.split(b"\r\n", 1)
        return line

    def _exactly(self, count: int) -> bytes:
        while len(self._rest) < count + 2:
            if not self._receive(ANSWER_WITHIN_S):
                raise Lost("the server stopped in the middle of a message")
        content, self._rest = self._rest[:count], self._rest[count + 2 :]
        return content

    def _receive(self, seconds: float) -> bool:
        self._socket.settimeout(max(seconds, 0.001))
        try:
            data = self._socket.recv(65_536)
        except TimeoutError:
            return False
        except OSError as error:
            raise Lost(str(error)) from error
        if not data:
            raise Lost("the server closed the connection")
        self._rest += data
        return True

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(ANSWER_WITHIN_S)
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Lost(str(error)) from error
