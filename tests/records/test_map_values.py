"""Relevance in the types of --dtype: how far off it may be, what refuses to be read, and the command that writes it."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lrpcli.errors import ImageError
from lrpcli.records.map_values import STEPS, read_values, restored, stored
from lrpcli.records.store import npy_bytes
from tests.photos import photo
from tests.resilience.runs import explain, rows

HALF_A_STEP = 1 / (2 * STEPS)
FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=3), elements=FLOATS))
def test_int16_is_off_by_half_a_step_of_the_largest_value_at_most_whatever_the_values(values):
    read = restored(stored(values, "int16")).astype(np.float64)
    largest = float(np.abs(values).max())
    rounding = 1e-7 * largest + 1e-45  # of the float32 that is given back
    assert np.abs(read - values).max() <= HALF_A_STEP * largest + rounding
    assert not read[values == 0].any(), "zero is nobody's relevance"
    assert read.shape == values.shape


def test_int16_is_within_one_and_a_half_hundred_thousandths_as_the_documentation_says():
    assert round(HALF_A_STEP, 6) == 1.5e-5
    values = np.random.default_rng(0).normal(size=(227, 227)).astype(np.float32)
    assert np.abs(restored(stored(values, "int16")) - values).max() <= 1.53e-5 * np.abs(values).max()


def test_the_line_that_the_documentation_gives_reads_an_int16_map():
    values = np.linspace(-3, 1, 12, dtype=np.float32).reshape(3, 4)
    array = np.load(io.BytesIO(npy_bytes(stored(values, "int16"))))
    np.testing.assert_allclose(array["scale"] * array["values"], values, atol=1.6e-5 * 3)
    with pytest.raises(TypeError):
        array.sum()  # whoever does not know gets an error, not steps for relevance


def test_a_file_of_int16_can_be_taken_apart_by_hand():
    values = np.array([[0.5, -1.0, 0.25]], np.float32)
    data = npy_bytes(stored(values, "int16"))
    scale, *steps = struct.unpack("<d3h", data[-14:])
    assert scale == 1 / 32767 and steps == [16384, -32767, 8192]
    assert len(data) == 128 + 8 + 2 * 3


@pytest.mark.parametrize("dtype", ["float16", "int16"])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_refused(dtype, bad):
    with pytest.raises(OverflowError, match=f"{dtype} has no room for"):
        stored(np.array([[0.0, bad]], np.float32), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_floats_come_back_as_they_are_as_arrays_of_their_own(dtype):
    values = np.array([[1.5, -2.0]], np.float32)
    read = restored(stored(values, dtype))
    assert read.dtype == np.float32 and read.tolist() == values.tolist()
    read[:] = 0
    assert values.any()


def lying(**changes):
    values = {"scale": 0.5, "kind": [("scale", "<f8"), ("values", "<i2", (2, 2))], "shape": (), **changes}
    array = np.zeros(values["shape"], values["kind"])
    if "scale" in (array.dtype.names or ()):
        array["scale"] = values["scale"]
    return npy_bytes(array)


def headed(header):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


@pytest.mark.parametrize(
    "data",
    [
        lying(scale=np.nan), lying(scale=np.inf), lying(scale=-1.0), lying(shape=(3,)),
        lying(kind=[("scale", "<f8"), ("values", "<i4", (2, 2))]), lying(kind=[("values", "<i2", (2, 2))]),
        lying(kind=[("scale", "<f8"), ("values", "<i2", (2, 2)), ("more", "<i2")]),
        lying(kind=[("scale", ">f8"), ("values", "<i2", (2, 2))]),
        npy_bytes(np.zeros((2, 2), np.int16)), npy_bytes(np.zeros((2, 2), np.complex64)),
        npy_bytes(np.zeros((2, 2), "U3")), b"", b"\x93NUMPY", lying()[:-1], lying()[:60],
        headed("{'descr': '<f4', 'fortran_order': False, 'shape': (1048576, 1048576, 64)}"), headed("{'descr': '<f4',"),
        headed("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -2)}"), headed("(" * 5000),
    ],
)  # fmt: skip
def test_files_that_hold_anything_else_are_errors_that_name_them(data):
    with pytest.raises(ImageError, match=r"The map 'a\.npy' cannot be read: "):
        read_values(data, "a.npy")


@pytest.mark.parametrize("options", [(), ("--channels", "keep"), ("--map-space", "image")], ids=str)
def test_the_command_writes_int16_maps_and_layers(tmp_path, options):
    path = photo(tmp_path / "a.png")
    exact, steps = tmp_path / "float", tmp_path / "int"
    assert explain(path, exact, "--save", "map,layers", *options).returncode == 0
    result = explain(path, steps, "--save", "map,layers", *options, "--dtype", "int16", "--json")
    assert result.returncode == 0 and rows(result)[0]["outputs"]["map"] == f"{steps}/a.png.npy"
    expected = np.load(exact / "a.png.npy")
    read = read_values((steps / "a.png.npy").read_bytes(), "a")
    assert read.shape == expected.shape and np.abs(read - expected).max() <= 1.53e-5 * np.abs(expected).max()
    with np.load(exact / "a.png.layers.npz") as ours, np.load(steps / "a.png.layers.npz") as theirs:
        assert ours.keys() == theirs.keys()
        for name in ours:
            largest = np.abs(ours[name]).max()
            assert np.abs(restored(theirs[name]) - ours[name]).max() <= 1.53e-5 * largest + 1e-7 * largest


def test_a_run_with_another_type_is_refused(tmp_path):
    path = photo(tmp_path / "a.png")
    assert explain(path, tmp_path / "out").returncode == 0
    refused = explain(path, tmp_path / "out", "--dtype", "int16")
    assert refused.returncode == 2 and b'output.dtype was "float32" and is now "int16"' in refused.stderr
