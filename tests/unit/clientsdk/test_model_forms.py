"""Helpers: each form comes back as it went in, FEDn's files are read and written, and lies are refused."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from fedbus import _tensorfile
from fedbus.cli import GROUP, gather
from fedbus.errors import BadModel, BadOption, BadResult
from fedbus.helpers import Helper, find, limits, list_order, names
from fedbus.model_commands import convert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

GOLDEN = Path(__file__).parent / "golden"
"""Made by FEDn 0.33's own helpers from `listed()`; how, the file beside them says."""


def listed(count: int = 12) -> dict[str, np.ndarray]:
    """More than ten arrays: as text, "10" sorts before "2"."""
    return {str(i): np.full((2, i + 1), i / 4, np.float32) for i in range(count)}


def same(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> bool:
    return list(left) == list(right) and all(np.array_equal(left[n], right[n]) for n in left)


def archive(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return made.getvalue()


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array(made, array, version, allow_pickle=True)
    return made.getvalue()


def test_all_helpers_are_found_by_name() -> None:
    assert set(names()) >= {
        "safetensors",
        "numpyhelper",
        "binaryhelper",
        "androidhelper",
        "splitlearninghelper",
        "rawbytes",
    }
    for name in names():
        assert isinstance(find(name), Helper)


@pytest.mark.parametrize("name", ["safetensors", "numpyhelper", "splitlearninghelper"])
def test_arrays_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([True, False]),
        "c": np.array(7, np.int64),
        "d": np.zeros((0, 3), np.float16),
        "e": np.asfortranarray(np.arange(6, dtype=">f8").reshape(3, 2)),
    }
    path = tmp_path / "model"
    find(name).to_file(model, path)
    back = find(name).from_file(path, model)
    assert same({n: back[n] for n in model}, model)
    for array in back.values():
        array[...] = 0  # they may be written to


@pytest.mark.parametrize(("name", "kind"), [("binaryhelper", "<f8"), ("androidhelper", "<f4")])
def test_vectors_are_numbers_only(name: str, kind: str, tmp_path: Path) -> None:
    model = listed()
    path = tmp_path / "model"
    find(name).to_file(model, path)
    flat = np.concatenate([array.reshape(-1) for array in model.values()])
    assert path.read_bytes() == flat.astype(kind).tobytes()
    assert same(find(name).from_file(path, model), model)
    assert np.array_equal(find(name).from_file(path, {})["0"], flat)
    path.write_bytes(path.read_bytes() + b"12345678")
    with pytest.raises(BadModel, match=r"bytes it may have|numbers"):
        find(name).from_file(path, model)
    path.write_bytes(b"1")
    with pytest.raises(BadModel, match="no whole number"):
        find(name).from_file(path, model)


def test_raw_bytes_are_carried(tmp_path: Path) -> None:
    helper, path = find("rawbytes"), tmp_path / "model"
    model = {"bytes": np.frombuffer(b"anything", np.uint8)}
    helper.to_file(model, path)
    assert path.read_bytes() == b"anything"
    assert same(helper.from_file(path, model), model)
    path.write_bytes(b"other")
    with pytest.raises(BadModel, match="shape"):
        helper.from_file(path, model)
    with pytest.raises(BadResult, match="raw bytes"):
        helper.to_file(listed(), path)


def test_fedns_list_keeps_its_order(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    find("numpyhelper").to_file(listed(), path)
    assert list(np.load(path).files) == [str(i) for i in range(12)]
    assert same(find("numpyhelper").from_file(path, {}), listed())
    by_name = {"w": np.zeros(3, np.float32), "b": np.ones(2, np.float32)}
    find("numpyhelper").to_file(by_name, path)
    assert np.array_equal(np.load(path)["0"], by_name["b"]), "the order of the sorted names"
    back = find("numpyhelper").from_file(path, by_name)
    assert all(np.array_equal(back[name], by_name[name]) for name in by_name)
    assert list_order(by_name) == ("b", "w")


def test_the_archive_is_the_one_numpy_writes(tmp_path: Path) -> None:
    mine, numpys = tmp_path / "a.npz", tmp_path / "b.npz"
    find("numpyhelper").to_file(listed(), mine)
    np.savez_compressed(numpys, allow_pickle=False, **listed())
    assert mine.read_bytes() == numpys.read_bytes()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("numpyhelper", "numpyhelper.npz"),
        ("binaryhelper", "binaryhelper.bin"),
        ("androidhelper", "androidhelper.bin"),
        ("splitlearninghelper", "splitlearninghelper.npz"),
    ],
)
def test_fedns_own_files_are_read_and_written(name: str, file: str, tmp_path: Path) -> None:
    golden = GOLDEN / file
    model = listed(3)
    assert same(find(name).from_file(golden, model), model)
    find(name).to_file(model, tmp_path / file)
    mine, theirs = (tmp_path / file), golden
    if file.endswith(".bin"):
        assert mine.read_bytes() == theirs.read_bytes()
    else:  # the zip library's version may deflate otherwise: the members are the same
        with zipfile.ZipFile(mine) as one, zipfile.ZipFile(theirs) as two:
            assert one.namelist() == two.namelist()
            assert all(one.read(member) == two.read(member) for member in one.namelist())


def test_archives_that_numpy_savez_named_itself_are_lists(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, np.zeros(2), np.ones(3))
    assert list(find("numpyhelper").from_file(path, {})) == ["0", "1"]
    np.savez(path, first=np.zeros(2))
    with pytest.raises(BadModel, match="not a list"):
        find("numpyhelper").from_file(path, {})


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_the_header_are_read(version: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(archive(**{"0": npy(np.arange(3.0), version)}))
    assert find("numpyhelper").from_file(path, {})["0"].tolist() == [0, 1, 2]


def lying(shape: bytes, *, fill: bytes = b"\0" * 24, kind: bytes = b"<f8") -> bytes:
    header = b"{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (kind, shape)
    header += b" " * (53 - len(header) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + fill


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (npy(np.array([object()])), "plain numbers"),
        (npy(np.array(["text"])), "plain numbers"),
        (npy(np.array([1j])), "plain numbers"),
        (lying(b"(99999999999,)"), "its shape's"),
        (lying(b"(2,)"), "its shape's"),
        (lying(b"(-3,)"), "plain numbers"),
        (lying(b"(3,", fill=b""), "plain numbers"),
        (lying(b"(" * 9000), "plain numbers"),
        (lying(b"(" + b"1," * 40 + b"3)"), "dimensions"),
        (lying(b"(3,)", kind=b"<f1"), "element type"),
        (b"\x93NUMPY\x01\x00\xff\xff", "plain numbers"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of"),
        (b"PK", "does not begin"),
    ],
)
def test_a_bad_array_is_refused(member: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(archive(**{"0": member}))
    with pytest.raises(BadModel, match=why):
        find("numpyhelper").from_file(path, {})


def test_other_names_and_shapes_than_the_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez_compressed(path, allow_pickle=False, **listed(3))
    for like, why in ((listed(4), "missing"), (listed(2), "not in the model")):
        with pytest.raises(BadModel, match=why):
            find("numpyhelper").from_file(path, like)
    like = listed(3) | {"1": np.zeros(5, np.float32)}
    with pytest.raises(BadModel, match="shape"):
        find("numpyhelper").from_file(path, like)
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as file:
        file.writestr("0.npy", npy(np.zeros(2)))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("0.npy", npy(np.zeros(2)))
    path.write_bytes(twice.getvalue())
    with pytest.raises(BadModel, match="stands twice"):
        find("numpyhelper").from_file(path, {})


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    bomb = np.zeros(64 * 1024 * 1024, np.uint8)
    np.savez_compressed(path, allow_pickle=False, **{"0": bomb})
    assert path.stat().st_size < 100_000
    del bomb
    tracemalloc.start()
    for like, why in ((1000, "more bytes than they may have"), (16 * 1024 * 1024, "shape")):
        with pytest.raises(BadModel, match=why):
            find("numpyhelper").from_file(path, {"0": np.broadcast_to(np.float32(0), (like,))})
    monkeypatch.setattr(limits, "BYTES_MAX", 1024 * 1024)
    with pytest.raises(BadModel, match="more bytes than they may have"):
        find("numpyhelper").from_file(path, {})
    assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    tracemalloc.stop()


def test_a_member_that_unpacks_to_more_than_it_said_is_refused(tmp_path: Path) -> None:
    """The directory says 24 bytes of data; more come out."""
    data = bytearray(archive(**{"0": npy(np.arange(3.0)) + b"\1" * 4096}))
    said = len(npy(np.arange(3.0)))
    true = said + 4096
    for place in range(len(data) - 4):
        if data[place : place + 4] == struct.pack("<L", true):
            data[place : place + 4] = struct.pack("<L", said)
    path = tmp_path / "model.npz"
    path.write_bytes(data)
    with pytest.raises(BadModel):
        find("numpyhelper").from_file(path, {})


def test_a_directory_of_too_many_members_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, allow_pickle=False, **listed(2))
    data = bytearray(path.read_bytes())
    data[-14:-10] = struct.pack("<HH", 60_000, 60_000)
    path.write_bytes(data)
    with pytest.raises(BadModel, match="TENSORS_MAX"):
        find("numpyhelper").from_file(path, {})
    path.write_bytes(path.read_bytes()[:-22])
    with pytest.raises(BadModel, match="does not end"):
        find("numpyhelper").from_file(path, {})
    path.write_bytes(b"PK")
    with pytest.raises(BadModel, match="too short"):
        find("numpyhelper").from_file(path, {})
    with pytest.raises(BadModel, match="No such file"):
        find("numpyhelper").from_file(tmp_path / "none", {})


GOOD = archive(**{"0": npy(np.arange(3.0)), "1": npy(np.ones((2, 2), np.int8))})


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)).map(
            lambda change: GOOD[: change[0]] + bytes([change[1]]) + GOOD[change[0] + 1 :]
        ),
        st.integers(0, len(GOOD)).map(lambda length: GOOD[:length]),
        st.binary(max_size=120).map(lambda data: archive(**{"0": data})),
        st.binary(max_size=80).map(lambda rest: archive(**{"0": npy(np.arange(3.0))[:40] + rest})),
    ),
    st.sampled_from(sorted({"safetensors", "numpyhelper", "splitlearninghelper", "binaryhelper"})),
)
def test_whatever_the_bytes_it_ends_in_arrays_or_a_refusal(
    tmp_path: Path, data: bytes, name: str
) -> None:
    path = tmp_path / "model"
    path.write_bytes(data)
    likes: list[dict[str, np.ndarray]] = [{}, {"0": np.zeros(3), "1": np.ones((2, 2), np.int8)}]
    for like in likes:
        try:
            found = find(name).from_file(path, like)
        except BadModel:
            continue
        assert all(array.dtype.kind in "fiub" for array in found.values())
        assert not like or {n: a.shape for n, a in found.items()} == {
            n: a.shape for n, a in like.items()
        }


def test_objects_are_not_pickled_into_an_archive(tmp_path: Path) -> None:
    for name in ("numpyhelper", "splitlearninghelper", "safetensors", "binaryhelper"):
        with pytest.raises(BadResult, match="element type"):
            find(name).to_file({"0": np.array([object()])}, tmp_path / "model")


def test_an_unknown_helper_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadOption, match="there are androidhelper"):
        find("none")


def test_a_seed_of_fedn_becomes_a_tensor_file(tmp_path: Path) -> None:
    app = gather(entry_points(group=GROUP))
    target = tmp_path / "seed.safetensors"
    said = CliRunner().invoke(
        app, ["model", "convert", str(GOLDEN / "numpyhelper.npz"), str(target)]
    )
    assert said.exit_code == 0, said.output
    assert said.output.splitlines() == ["0\tF32\t[2, 1]", "1\tF32\t[2, 2]", "2\tF32\t[2, 3]"]
    assert same(_tensorfile.read(target.read_bytes()), listed(3))
    back = tmp_path / "back.npz"
    again = CliRunner().invoke(app, ["model", "convert", str(target), str(back)])
    assert again.exit_code == 0
    assert same(find("numpyhelper").from_file(back, {}), listed(3))
    kept = CliRunner().invoke(app, ["model", "convert", str(target), str(back)])
    assert isinstance(kept.exception, BadOption)
    nameless = CliRunner().invoke(app, ["model", "convert", str(target), str(tmp_path / "model")])
    assert isinstance(nameless.exception, BadOption)
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK")
    with pytest.raises(BadModel):
        convert(bad, tmp_path / "none", find("numpyhelper"), find("safetensors"))
    assert [*tmp_path.glob("none*")] == []
