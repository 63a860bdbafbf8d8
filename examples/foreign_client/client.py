"""A client that knows fedbus from docs/wire-contract.md alone: `python -S client.py CREDENTIALS`.

It uses the standard library only and imports nothing of fedbus; so it shows what a client in another language
has to do. It trains every task by moving the model's values a third of the way to 1, and says in a line on
its standard output what it did. It keeps nothing on a disk: for what a client should, see the page.
"""

import base64
import binascii
import json
import sys
import time
import urllib.error
import urllib.request
from array import array
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import ed25519
import tensorfile
from nats_line import Line, Lost

HELLO, MAIL, MANIFEST = (f"fl/{what}/v1\0".encode() for what in ("hello", "mail", "manifest"))
PASSING = ("retry_later", "round_unknown", "client_unknown")
"""Refusals that may pass: ask again."""
PAUSE_S = 0.2
TRIES_MAX = 50
STORE_TIMEOUT_S = 30.0
EXISTS = 412
"""The store's answer to a PUT of what is there already: fine."""


class Refused(Exception):
    """The servers said no for good."""


class Keys:
    """The device's key signs in to the bus, the payload key signs what this client says."""

    def __init__(self, credentials: dict[str, Any]) -> None:
        seed = _base32(credentials["device_seed"])[2:34]
        body = bytes([20 << 3]) + ed25519.public(seed)
        checked = body + binascii.crc_hqx(body, 0).to_bytes(2, "little")
        self.device = base64.b32encode(checked).decode().rstrip("=")
        self.sign_in = lambda nonce: ed25519.sign(seed, nonce)
        self._payload = _base64url(credentials["payload_seed"])
        self.public = _to_base64url(ed25519.public(self._payload))

    def sign(self, domain: bytes, text: str) -> str:
        """Sign with the payload key."""
        return _to_base64url(ed25519.sign(self._payload, domain + text.encode()))


class Client:
    """One client on one connection."""

    def __init__(self, credentials: dict[str, Any]) -> None:
        self._keys = Keys(credentials)
        self._name = credentials["name"]
        self._project = credentials["project"]
        self._trust = credentials["trust"]
        server, ca = credentials["servers"][0], credentials.get("ca")
        self._line = Line(server, self._keys.device, credentials["token"], self._keys.sign_in, ca)
        self._me = ""
        self._numbers: dict[str, int] = {}
        self._trained: set[tuple[str, int, int]] = set()
        self._validated: set[tuple[str, int]] = set()

    def run(self) -> None:
        """Take part until the connection is lost."""
        self._line.hear(f"fl.{self._project}.task.{self._keys.device}.*")
        welcome = self._insist("hello", self._hello())["welcome"]
        self._me = welcome["client"]
        _say("hello", self._me)
        synced = self._insist("sync", {})["synced"]
        for signed in synced.get("mail", []):
            self._on_mail(signed)
        beat_at = time.monotonic()
        while True:
            if time.monotonic() >= beat_at:
                self._insist("beat", {})
                beat_at = time.monotonic() + welcome["beat_s"]
            live = self._line.wait(beat_at - time.monotonic())
            if live is not None:
                self._on_mail(json.loads(live))

    def _hello(self) -> dict[str, Any]:
        keys = self._keys
        proof = keys.sign(HELLO, keys.device)
        return {"name": self._name, "key": keys.public, "proof": proof, "sdk": "foreign/1"}

    def _on_mail(self, signed: dict[str, Any]) -> None:
        if signed["key"] not in self._trust or not ed25519.verify(
            _base64url(signed["key"]),
            MAIL + signed["mail"].encode(),
            _base64url(signed["signature"]),
        ):
            _say("noise", "nobody that we trust signed it")
            return
        mail = json.loads(signed["mail"])
        session, address = mail["session"], (mail["project"], mail["device"], mail["client"])
        if address != (self._project, self._keys.device, self._me):
            _say("noise", "it is addressed to another client")
            return
        if mail["number"] <= self._numbers.get(session, 0):
            return  # older than what was seen, or the same again
        self._numbers[session] = mail["number"]
        for receipt in mail.get("receipts", []):
            _say("receipt", session, receipt["round"], receipt["fate"], receipt.get("model", ""))
        for task in mail.get("tasks", []):
            if task["kind"] == "train":
                self._train(session, task)
            elif task["kind"] == "validate":
                self._validate(session, task)

    def _train(self, session: str, task: dict[str, Any]) -> None:
        key = (session, task["round"], task["attempt"])
        if key in self._trained:
            return
        self._trained.add(key)
        model = tensorfile.read(self._model(session, task, task["attempt"]))
        for tensor in model.values():
            tensor.values = array("f", (value + (1 - value) / 3 for value in tensor.values))
        file = tensorfile.write(model)
        blob = {"digest": sha256(file).hexdigest(), "size": len(file)}
        manifest = {
            "project": self._project,
            "session": session,
            "round": task["round"],
            "attempt": task["attempt"],
            "client": self._me,
            "base": task["model"]["digest"],
            "update": blob,
            "weight": 10,
            "metrics": {"loss": 0.5},
        }
        text = json.dumps(manifest)
        submission = {
            "manifest": text,
            "key": self._keys.public,
            "signature": self._keys.sign(MANIFEST, text),
        }
        if len(file) <= task["inline_bytes_max"]:
            submission["inline"] = base64.b64encode(file).decode()
        else:
            self._upload(key, blob, file)
        try:
            stored = self._insist("submit", submission)["stored"]
        except Refused as refusal:  # as when the round is over
            _say("refused", session, task["round"], refusal)
        else:
            _say("stored", session, task["round"], stored["update"])

    def _validate(self, session: str, task: dict[str, Any]) -> None:
        if (session, task["round"]) in self._validated:
            return
        self._validated.add((session, task["round"]))
        model = tensorfile.read(self._model(session, task, 1))
        values = [value for tensor in model.values() for value in tensor.values]
        report = {
            "session": session,
            "round": task["round"],
            "model": task["model"]["digest"],
            "weight": 10,
            "metrics": {"mean": sum(values) / len(values)},
        }
        self._insist("report", report)
        _say("reported", session, task["round"])

    def _model(self, session: str, task: dict[str, Any], attempt: int) -> bytes:
        """Give the model's bytes: from the mail, or from the object store. The hash must hold."""
        wanted = task["model"]
        if wanted.get("inline") is not None:
            file = base64.b64decode(wanted["inline"])
        else:
            blob = {"digest": wanted["digest"], "size": wanted["size"]}
            asked = {"session": session, "round": task["round"], "attempt": attempt, "blob": blob}
            grant = self._insist("grant", asked | {"purpose": "download"})["grant"]
            file = _transfer(grant, None)
            self._insist("done", {"blob": wanted["digest"]})
        if sha256(file).hexdigest() != wanted["digest"]:
            raise ValueError("the model's bytes are not the ones that its digest names")
        return file

    def _upload(self, key: tuple[str, int, int], blob: dict[str, Any], file: bytes) -> None:
        session, round_number, attempt = key
        asked = {"session": session, "round": round_number, "attempt": attempt, "blob": blob}
        grant = self._insist("grant", asked | {"purpose": "upload"})["grant"]
        if not grant.get("exists"):
            _transfer(grant, file)

    def _insist(self, verb: str, message: dict[str, Any]) -> dict[str, Any]:
        """Ask until there is an answer that will not pass. Every request may be repeated as it is."""
        subject = f"fl.{self._project}.ask.{self._keys.device}.{verb}"
        content = json.dumps(message).encode()
        for pause_s in _pauses():
            data = self._line.ask(subject, content)
            if data is not None:
                answer: dict[str, Any] = json.loads(data)
                refusal = answer.get("refusal")
                if refusal is None:
                    return answer
                if refusal["code"] not in PASSING:
                    raise Refused(f"{refusal['code']}: {refusal['detail']}")
                pause_s = refusal.get("retry_after_s", pause_s)
            time.sleep(pause_s)
        raise Lost(f"no answer to {verb}")


def _transfer(grant: dict[str, Any], content: bytes | None) -> bytes:
    """Do what the grant says, with exactly its headers; give what the store sent."""
    headers = {
        name: value
        for name, value in grant["headers"].items()
        if name.lower() not in ("host", "content-length")  # the HTTP library sets these
    }
    request = urllib.request.Request(  # the servers name the object store's address
        grant["url"], data=content, headers=headers, method=grant["method"]
    )
    try:
        with urllib.request.urlopen(request, timeout=STORE_TIMEOUT_S) as answer:
            received: bytes = answer.read()
            return received
    except urllib.error.HTTPError as error:
        with error:
            if content is not None and error.code == EXISTS:
                return b""
            raise


def _pauses() -> Iterator[float]:
    pause_s = PAUSE_S
    for _ in range(TRIES_MAX):
        yield pause_s
        pause_s = min(2 * pause_s, 2.0)


def _base32(text: str) -> bytes:
    return base64.b32decode(text + "=" * (-len(text) % 8))


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _to_base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    try:
        Client(json.loads(Path(sys.argv[1]).read_text())).run()
    except Lost as reason:
        sys.exit(f"the connection is lost: {reason}")
