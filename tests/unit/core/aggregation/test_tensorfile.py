"""Tensor files: one file for one set of tensors, strict reading, views without copies."""

import json

import numpy as np
import pytest
from fedbus_core.aggregation import tensorfile
from fedbus_core.aggregation.tensorfile import TensorFileError, parse_layout, views, write
from fedbus_schemas.refusals import RefusalCode


def file_of(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


ALL_TYPES = {
    name.lower(): np.arange(6).reshape(2, 3).astype(kind)
    for name, kind in tensorfile.DTYPES.items()
}


def test_every_type_comes_back_in_its_shape() -> None:
    data = write(ALL_TYPES, bf16=["bf16"])
    layout = parse_layout(data, len(data))
    assert [spec.dtype.lower() for spec in layout.tensors] == sorted(ALL_TYPES)
    for name, view in views(layout, memoryview(data)).items():
        assert view.dtype == ALL_TYPES[name].dtype
        np.testing.assert_array_equal(view, ALL_TYPES[name])
        assert not view.flags.writeable


def test_the_bytes_are_fixed() -> None:
    data = write({"b": np.array([1, -2], ">i2"), "a": np.array(-0.0, "f4")})
    header = (
        b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},'
        b'"b":{"dtype":"I16","shape":[2],"data_offsets":[4,8]}}'
    )
    padded = header + b" " * (-len(header) % 8)
    assert data == (
        len(padded).to_bytes(8, "little") + padded + b"\0\0\0\x80" + b"\x01\x00\xfe\xff"
    )


def test_the_order_of_the_mapping_and_of_memory_do_not_matter() -> None:
    array = np.arange(12.0).reshape(3, 4)
    assert write({"x": array, "é": array}) == write({"é": np.asfortranarray(array), "x": array})


def test_empty_and_dimensionless_tensors_work() -> None:
    tensors = {"none": np.empty((0, 3), "f4"), "scalar": np.array(2.5), "void": np.empty(0, "?")}
    data = write(tensors)
    found = views(parse_layout(data, len(data)), data)
    assert {name: view.shape for name, view in found.items()} == {
        "none": (0, 3),
        "scalar": (),
        "void": (0,),
    }
    assert found["scalar"] == 2.5
    nothing = write({})
    assert views(parse_layout(nothing, len(nothing)), nothing) == {}


def test_views_share_memory_and_copy_only_what_is_unaligned() -> None:
    data = write({"a": np.zeros(8, "f4"), "b": np.zeros(3, "i1"), "c": np.ones(4, "f4")})
    found = views(parse_layout(data, len(data)), data)
    whole = np.frombuffer(data, np.uint8)
    assert np.shares_memory(found["a"], whole)
    assert not np.shares_memory(found["c"], whole)
    assert found["c"].flags.aligned
    np.testing.assert_array_equal(found["c"], 1)


def test_the_digest_knows_kinds_and_not_places() -> None:
    plain = write({"a": np.zeros(2, "f4"), "b": np.ones(1, "f4")})
    swapped = file_of(
        {
            "b": entry(offsets=(0, 4)),
            "a": entry(shape=(2,), offsets=(4, 12)),
            "__metadata__": {"by": "x"},
        },
        bytes(12),
    )
    first, second = parse_layout(plain, len(plain)), parse_layout(swapped, len(swapped))
    assert first != second
    assert first.same_as(second)
    assert first.digest == second.digest
    other = write({"a": np.zeros((2, 1), "f4"), "b": np.ones(1, "f4")})
    assert parse_layout(other, len(other)).digest != first.digest


def test_sixteen_bit_floats_decode_exactly() -> None:
    half = np.array([1.5, -0.0, 65504, 2**-24], "f2")
    data = write({"b": np.array([0x3F80, 0x8000, 0x7F7F], "u2"), "h": half}, bf16=["b"])
    b, h = parse_layout(data, len(data)).tensors
    largest = float.fromhex("0x1.fep127")
    assert tensorfile.as_float32(b, data).tolist() == [1.0, -0.0, largest]
    assert tensorfile.as_float32(h, data).tolist() == half.tolist()
    assert h.items == 4
    assert h.nbytes == 8
    double = write({"d": np.zeros(1)})
    with pytest.raises(ValueError, match="F64"):
        tensorfile.as_float32(parse_layout(double, len(double)).tensors[0], double)


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        ({"a": entry()}, bytes(5), "end at byte"),
        ({"a": entry()}, bytes(3), "end at byte"),
        ({"a": entry(), "b": entry(offsets=(2, 6))}, bytes(6), "overlaps"),
        ({"a": entry(), "b": entry(offsets=(5, 9))}, bytes(9), "gap"),
        ({"a": entry(offsets=(4, 8))}, bytes(8), "gap"),
        ({"a": entry(shape=[2])}, bytes(4), "size"),
        ({"a": entry(shape=[-1])}, bytes(4), "out of range"),
        ({"a": entry(shape=[2**62, 4])}, bytes(4), "DIMENSION_MAX"),
        ({"a": entry(shape=[2**40, 2**40, 0], offsets=(0, 0))}, b"", "TENSOR_BYTES_MAX"),
        ({"a": entry(shape=[1] * 33)}, bytes(4), "lists of 32"),
        ({"a": entry(shape=[True])}, bytes(4), "whole numbers"),
        ({"a": entry(shape=[1.0])}, bytes(4), "only whole numbers"),
        ({"a": entry(shape="1")}, bytes(4), "lists"),
        ({"a": entry(offsets=(0, 4, 4))}, bytes(4), "two data_offsets"),
        ({"a": entry(dtype="F8")}, bytes(1), "unknown dtype"),
        ({"a": {**entry(), "dtype": 1}}, bytes(4), "named dtype"),
        ({"a": {**entry(), "more": 1}}, bytes(4), "exactly"),
        ({"a": 1}, b"", "exactly"),
        ({"a" * 513: entry()}, bytes(4), "NAME_BYTES_MAX"),
        (b'{"\\ud800":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"1", "Unicode"),
        (b'{"a":{},"a":{}}', b"", "twice"),
        (b'{"a":{"shape":[NaN]}}', b"", "NaN"),
        (b'{"a":' + b"9" * 5000 + b"}", b"", "out of range"),
        ({"__metadata__": {"a": 1}}, b"", "object of strings"),
        (b"[]", b"", "begin with"),
        (b" {}", b"", "begin with"),
        (b"", b"", "begin with"),
        (b"{}x", b"", "JSON"),
        (b'{"\xff":1}', b"", "JSON"),
        (b'{"a":' + b"[" * 60_000, b"", "JSON"),
        (b'{"a":' + b"[" * 100_000, b"", "lists and objects"),
        ({f"{i}": entry(shape=[0], offsets=(0, 0)) for i in range(16_385)}, b"", "TENSORS_MAX"),
    ],
)
def test_a_wrong_header_is_refused(header: object, data: bytes, says: str) -> None:
    bad = file_of(header, data)
    with pytest.raises(TensorFileError, match=says) as caught:
        parse_layout(bad, len(bad))
    assert caught.value.code is RefusalCode.UNREADABLE
    assert caught.value.detail == str(caught.value)


def test_the_header_may_come_alone_but_not_cut() -> None:
    data = write({"a": np.zeros(4)})
    need = tensorfile.header_length(data[:8])
    assert parse_layout(data[:need], len(data)) == parse_layout(data, len(data))
    for head, size in [(data[:7], 7), (data[: need - 1], len(data)), (data, need - 1)]:
        with pytest.raises(TensorFileError):
            parse_layout(head, size)
    with pytest.raises(TensorFileError, match="HEADER_BYTES_MAX"):
        tensorfile.header_length(b"\xff" * 8)


def test_what_cannot_be_read_is_not_written() -> None:
    with pytest.raises(TensorFileError, match="no tensor file holds"):
        write({"a": np.zeros(1, "c8")})
    with pytest.raises(TensorFileError, match="uint16"):
        write({"a": np.zeros(1, "f4")}, bf16=["a"])
    with pytest.raises(TensorFileError, match="reserved"):
        write({"__metadata__": np.zeros(1)})
    with pytest.raises(TensorFileError, match="two tensors"):
        tensorfile.encode_header([("a", "F32", (1,)), ("a", "F32", (2,))])
    with pytest.raises(TensorFileError, match="HEADER_BYTES_MAX"):
        tensorfile.encode_header((f"{i:0500d}", "F32", ()) for i in range(16_000))
