"""A small OpenID Connect issuer on the loopback: discovery, its keys, and tokens signed with them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "fedbus"


class Issuer:
    """The issuer. `fetched` counts how often its keys were asked for."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.published: dict[str, Any] = {}
        self.fetched = 0
        self.name: str | None = None
        self.url = ""
        self.new_key("rsa-1", rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def new_key(self, kid: str, key: Any = None) -> None:
        """Sign with a new key from now on, and publish it."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        is_rsa = isinstance(key, rsa.RSAPrivateKey)
        algorithm = RSAAlgorithm if is_rsa else ECAlgorithm
        public = json.loads(algorithm.to_jwk(key.public_key()))
        self.keys[kid] = key
        self.published[kid] = {**public, "kid": kid, "alg": "RS256" if is_rsa else "ES256"}

    def token(self, kid: str = "rsa-1", **claims: object) -> str:
        """Sign a token; a claim of None is left out."""
        now = int(time.time())
        usual = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "1234",
            "preferred_username": "ada",
            "iat": now,
            "exp": now + 600,
        }
        content = {name: one for name, one in {**usual, **claims}.items() if one is not None}
        algorithm = self.published[kid]["alg"] if kid in self.published else "ES256"
        return jwt.encode(content, self.keys[kid], algorithm, headers={"kid": kid})


@contextmanager
def issuing() -> Iterator[Issuer]:
    """Run an issuer."""
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document: object = {
                "/.well-known/openid-configuration": {
                    "issuer": issuer.name or issuer.url,
                    "jwks_uri": f"{issuer.url}/keys",
                },
                "/keys": {"keys": list(issuer.published.values())},
            }.get(self.path)
            issuer.fetched += self.path == "/keys"
            self.send_response(200 if document else 404)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
