"""The SDK and the servers write the same bytes for the same tensors, and accept the same files."""

import numpy as np
import pytest
from fedbus import _tensorfile as sdk
from fedbus.errors import BadModel
from fedbus_core.aggregation import tensorfile as servers
from hypothesis import given
from hypothesis import strategies as st

KINDS = [
    "<f8",
    "<f4",
    "<f2",
    "<i8",
    "<i4",
    "<i2",
    "i1",
    "<u8",
    "<u4",
    "<u2",
    "u1",
    "?",
    ">f4",
    ">i8",
]
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
NAMES = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda n: n != "__metadata__")


@st.composite
def models(draw: st.DrawFn) -> dict[str, sdk.Array]:
    model: dict[str, sdk.Array] = {}
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        shape = draw(SHAPES)
        seed = draw(st.integers(0, 2**32 - 1))
        raw = np.random.default_rng(seed).integers(0, 2, 8 * int(np.prod(shape)), np.uint8)
        kind = np.dtype(draw(st.sampled_from(KINDS)))
        array = raw[: int(np.prod(shape)) * kind.itemsize].view(kind).reshape(shape)
        model[name] = array.T if draw(st.booleans()) else array
    return model


@given(models())
def test_both_write_the_same_bytes(model: dict[str, sdk.Array]) -> None:
    data = sdk.write(model)
    assert data == servers.write(model)
    back = sdk.read(data)
    assert back.keys() == model.keys()
    for name, array in model.items():
        assert back[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
        assert back[name].flags.writeable


@given(st.lists(st.integers(0, 2**16 - 1), max_size=20))
def test_bfloat16_survives_being_seen_as_float32(bits: list[int]) -> None:
    raw = np.array(bits, np.uint16)
    finite = raw[(raw & 0x7F80) != 0x7F80]
    data = servers.write({"w": finite}, bf16=["w"])
    seen = sdk.read(data)
    assert seen["w"].dtype == np.float32
    assert sdk.write(seen, {"w": "BF16"}) == data


@given(models(), st.data())
def test_both_accept_and_refuse_the_same_files(
    model: dict[str, sdk.Array], data: st.DataObject
) -> None:
    file = bytearray(sdk.write(model))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(file) - 1))
        file[place] = data.draw(st.sampled_from([0, 1, 34, 44, 48, 57, 91, 93, 123, 125, 255]))
    cut = data.draw(st.integers(0, len(file)))
    for damaged in (bytes(file), bytes(file[:cut])):
        assert accepted_by_sdk(damaged) == accepted_by_servers(damaged)


def accepted_by_sdk(data: bytes) -> object:
    try:
        return [(t.name, t.dtype, t.shape, t.start, t.end) for t in sdk.layout(data)]
    except BadModel:
        return None


def accepted_by_servers(data: bytes) -> object:
    try:
        tensors = servers.parse_layout(data, len(data)).tensors
    except servers.TensorFileError:
        return None
    return [(t.name, t.dtype, t.shape, t.start, t.end) for t in tensors]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b'{"w":1}',
        b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{}}',
        b'{"w":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}',
        b'{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"w":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}',
        b'{"w":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}',
        b'{"w":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}',
        b'{"w":{"dtype":"F32","shape":[0,1099511627777],"data_offsets":[0,0]}}',
        b"{" + b'"a":[' * 100_000,
    ],
)
def test_strange_headers_are_refused(header: bytes) -> None:
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    with pytest.raises(BadModel):
        sdk.read(data)
    assert accepted_by_servers(data) is None
