"""What the api sends becomes the bundle that its material makes, byte for byte; and what may go wrong."""

import base64
import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fedbus_auditor.api import Access, Api, default_api
from fedbus_auditor.errors import ApiFailed, BadFile
from fedbus_auditor.export import bundle
from fedbus_auditor.files import FileReader, read_trust, write_whole
from fedbus_core.audit.findings import Code, Level

from tests import audit_worlds as worlds
from tests.audit_worlds import CONTROLLER, PROJECT, SESSION, World

BASE = f"/v1/sessions/{SESSION}/audit"


def lines(numbered: list[tuple[int, bytes]]) -> httpx.Response:
    documents = [
        {
            "sequence": sequence,
            "time": "2026-01-01T00:00:00Z",
            "data": base64.b64encode(data).decode(),
        }
        for sequence, data in numbered
    ]
    return httpx.Response(200, text="".join(json.dumps(one) + "\n" for one in documents))


def updates_of(world: World, path: str) -> list[tuple[int, bytes]]:
    number, attempt = (int(part) for part in path.split("/")[-2:])
    start = f"updates/{number:08d}/{attempt:08d}/"
    return [
        (int(name[len(start) :].split("-")[0]), data)
        for name, data in world.updates.items()
        if name.startswith(start)
    ]


def server(world: World, gone: tuple[str, ...] = ()) -> httpx.MockTransport:
    """The api's audit routes over a world."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["project"] == PROJECT
        assert request.headers["authorization"] == "Bearer secret"
        path = request.url.path
        if path == "/v1/trust":
            return httpx.Response(200, json={"keys": list(world.trust)})
        if path == f"{BASE}/log":
            return lines([(7 * n, data) for n, data in enumerate(world.log, start=1)])
        if path == f"{BASE}/heads":
            return lines(list(enumerate(world.heads.values(), start=1)))
        if path.startswith(f"{BASE}/updates/"):
            return lines(updates_of(world, path)[::-1])
        key = path.removeprefix(f"{BASE}/blobs/")
        if key in gone:
            return httpx.Response(410)
        if key in world.blobs:
            return httpx.Response(200, content=world.blobs[key])
        return httpx.Response(404, json={"code": "session_unknown", "detail": "no such session"})

    return httpx.MockTransport(answer)


@pytest.fixture
def access(tmp_path: Path) -> Access:
    token = tmp_path / "token"
    token.write_text("secret\n")
    return Access("http://api.test", token)


def export(transport: httpx.BaseTransport, access: Access, *, models: bool = True) -> bytes:
    with Api(access, PROJECT, SESSION, transport) as api:
        return b"".join(bundle(api, PROJECT, SESSION, models=models))


@pytest.mark.parametrize(
    "make",
    [worlds.three_rounds, worlds.one_update, worlds.still_open, worlds.paused, worlds.stopped],
)
def test_an_export_is_the_bundle_of_what_the_api_holds(
    make: Callable[[], World], access: Access
) -> None:
    assert export(server(make()), access) == make().bundle()


def test_models_can_be_left_out(access: Access) -> None:
    world = worlds.three_rounds()
    assert export(server(world), access, models=False) == world.without_models().bundle()


def test_pruned_and_missing_blobs_are_told_apart(access: Access) -> None:
    world = worlds.three_rounds()
    updates = [key for key in world.blobs if "/updates/" in key]
    exported = export(server(world, gone=(updates[0],)), access)
    report = worlds.verify(exported)
    assert report.ok
    assert worlds.codes(report, Level.NOTE) == {Code.BLOB_PRUNED}
    del world.blobs[updates[1]]
    report = worlds.verify(export(server(world), access))
    assert worlds.codes(report) == {Code.BLOB_MISSING}


def test_a_head_signed_after_the_log_was_read_is_left_out(access: Access) -> None:
    world = worlds.still_open()
    earlier = world.copy(log=world.log[:4])
    report = worlds.verify(export(server(earlier), access))
    assert Code.TRUNCATED not in worlds.codes(report)


def test_damaged_material_is_exported_as_it_is(access: Access) -> None:
    world = worlds.three_rounds()
    world.log[4] = b"not an entry"
    key = next(key for key in world.blobs if "/sets/" in key)
    world.blobs[key] = b"{" + world.blobs[key][1:-1] + b"?"
    name = next(iter(world.updates))
    world.updates[name] = b"not an update"
    report = worlds.verify(export(server(world), access))
    assert {Code.ENTRY_UNREADABLE, Code.BLOB_HASH} <= worlds.codes(report)
    assert Code.UPDATE_UNREADABLE in worlds.codes(report, Level.NOTE)


def respond(*responses: httpx.Response | Exception) -> httpx.MockTransport:
    left: Iterator[httpx.Response | Exception] = iter(responses)

    def answer(_: httpx.Request) -> httpx.Response:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    return httpx.MockTransport(answer)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (httpx.ConnectError("refused"), "cannot be read: refused"),
        (httpx.ReadTimeout(""), "ReadTimeout"),
        (httpx.Response(404, json={"code": "session_unknown", "detail": "s"}), "session_unknown"),
        (httpx.Response(502, text="<html>"), "HTTP 502"),
        (httpx.Response(401, json=["?"]), "HTTP 401"),
        (httpx.Response(200, text="<html>\n"), "unreadable line"),
        (
            httpx.Response(200, text='{"sequence":1,"time":"2026-01-01T00:00:00Z","data":"?"}\n'),
            "unreadable line",
        ),
        (httpx.Response(200, text="\n\n"), "has no log"),
    ],
)
def test_what_the_api_does_wrong_is_said(
    response: httpx.Response | Exception, said: str, access: Access
) -> None:
    with pytest.raises(ApiFailed, match=said):
        export(respond(response), access)


def test_an_unreadable_head_or_trust_is_said(access: Access) -> None:
    log = lines([(1, b"{}")])
    with pytest.raises(ApiFailed, match="head cannot be read"):
        export(respond(log, lines([(1, b"{}")])), access)
    with pytest.raises(ApiFailed, match="gave no keys"):
        export(respond(lines([(1, b"{}")]), lines([]), httpx.Response(200, text="?")), access)


def test_a_blob_of_another_length_than_announced_is_said(access: Access) -> None:
    world = worlds.one_update()
    first = world.log[0]
    short = httpx.Response(200, content=b"short", headers={"content-length": "99"})
    responses = (lines([(1, first)]), lines([]), lines([]), short)
    with pytest.raises(ApiFailed, match="was to have 99 bytes"):
        export(respond(*responses), access)


@pytest.mark.parametrize("url", ["nowhere", "ftp://x", "http://[", "http://a:b", ""])
def test_an_address_that_is_none_is_said(url: str) -> None:
    with pytest.raises(ApiFailed, match=r"cannot be read|not the address"):
        export(httpx.HTTPTransport(), Access(url))


def test_a_missing_token_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="token file"):
        Api(Access("http://api.test", tmp_path / "none"), PROJECT, SESSION)


def test_the_api_is_found_by_the_environment_or_the_local_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDBUS_API_URL", raising=False)
    monkeypatch.delenv("FEDBUS_API_TOKEN_FILE", raising=False)
    assert default_api() is None
    folder = tmp_path / ".fedbus"
    folder.mkdir()
    (folder / "api.json").write_text("?")
    assert default_api() is None
    (folder / "api.json").write_text('{"url": "http://local", "token_file": "t"}')
    assert default_api() == Access("http://local", Path("t"))
    monkeypatch.setenv("FEDBUS_API_TOKEN_FILE", "other")
    assert default_api() == Access("http://local", Path("other"))
    monkeypatch.setenv("FEDBUS_API_URL", "http://far")
    assert default_api() == Access("http://far", Path("other"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "x.tar"
    assert write_whole(target, [b"ab", b"c"]) == (3, worlds.digest(b"abc"))
    assert target.read_bytes() == b"abc"

    def failing(error: Exception) -> Iterator[bytes]:
        yield b"half"
        raise error

    with pytest.raises(BadFile, match="the disk is full"):
        write_whole(target, failing(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(ApiFailed):
        write_whole(target, failing(ApiFailed("gone")))
    with pytest.raises(BadFile, match="could not be written"):
        write_whole(tmp_path / "none" / "x.tar", [b""])
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
    assert target.read_bytes() == b"abc"


def test_reading_stops_where_the_file_ends(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    read: list[int] = []
    reader = FileReader(path, read.append)
    assert reader.read_at(1, 2**60) == b"bc"
    assert reader.read_at(9, 2**60) == b""
    assert read == [2, 0]
    reader.close()
    with pytest.raises(BadFile, match="cannot be read"):
        FileReader(tmp_path / "none")


def test_trusted_keys_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    with pytest.raises(BadFile, match="cannot be read"):
        read_trust(path)
    path.write_text(json.dumps({"keys": [CONTROLLER.public]}))
    assert read_trust(path) == (CONTROLLER.public,)
    for text in ('{"keys": []}', '{"keys": ["?"]}', "?", "{}"):
        path.write_text(text)
        with pytest.raises(BadFile, match="no trusted keys"):
            read_trust(path)
