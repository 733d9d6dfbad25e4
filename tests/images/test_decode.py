import io
import json
import os
import socket
import struct
import tarfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from lrpcli.errors import ImageError, UsageError
from lrpcli.images import decode as decode_module
from lrpcli.images.decode import DecodePolicy, decode
from lrpcli.images.formats import DEFAULT_FORMATS, IMAGE_SUFFIXES, image_suffixes
from tests.images.pictures import failure, png, saved, smooth
from tests.shared import shared

FORMATS = [name for name in DEFAULT_FORMATS if name != "AVIF" or features.check("avif")]


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_of_the_list_decodes_whatever_its_suffix(format_name, tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(saved(smooth(), format_name))
    for source in (path, str(path), io.BytesIO(path.read_bytes())):
        image = decode(source)
        assert (image.mode, image.size) == ("RGB", (64, 48))
        # GIF has 256 colours for the whole picture.
        assert np.abs(np.asarray(image, dtype=int) - np.asarray(smooth(), dtype=int)).mean() < 8


def test_the_image_outlives_its_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(smooth(), "PNG"))
    image = decode(path)
    path.unlink()
    assert image.resize((2, 2)).getpixel((0, 0)) != image.getpixel((63, 47))
    assert "exif" not in image.info


def test_a_format_that_is_not_on_the_list_fails(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(smooth(), "PNG"))
    error = failure(path, DecodePolicy(formats=("JPEG", "GIF")))
    assert error.kind == "decode"
    assert str(error) == (
        f"The image {str(path)!r} is not a picture in one of the formats JPEG, GIF, or its header is broken."
    )
    assert decode(io.BytesIO(saved(smooth(), "PCX")), DecodePolicy(formats=("pcx",))).size == (64, 48)


def test_postscript_is_never_opened():
    assert failure(io.BytesIO(saved(smooth(), "EPS"))).kind == "decode"
    for name in ("EPS", "eps", "PS"):
        with pytest.raises(UsageError, match="EPS files are programs, not pixels, and are never opened"):
            DecodePolicy(formats=("PNG", name))


def test_policies_are_checked():
    assert DecodePolicy(formats=("jpg", "MPO", "tif", "pgm")).formats == ("JPEG", "TIFF", "PPM")
    with pytest.raises(UsageError, match="There is no image format 'JPEG200'. Did you mean JPEG2000?"):
        DecodePolicy(formats=("JPEG200",))
    with pytest.raises(UsageError, match="There is no image format 'quux'. The usual ones are JPEG, PNG, "):
        DecodePolicy(formats=("quux",))
    with pytest.raises(UsageError, match="No image format is allowed"):
        DecodePolicy(formats=())
    with pytest.raises(UsageError, match="The largest number of pixels must be at least 1, not 0"):
        DecodePolicy(max_pixels=0)
    with pytest.raises(UsageError, match="'refuse' or 'accept', not 'maybe'"):
        DecodePolicy(truncated="maybe")


def test_suffixes_follow_the_formats():
    assert image_suffixes(DEFAULT_FORMATS) == IMAGE_SUFFIXES
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif"} <= IMAGE_SUFFIXES
    assert image_suffixes(("PNG", "JPEG2000")) >= {".png", ".jp2"}
    assert ".jpg" not in image_suffixes(("PNG", "JPEG2000"))


@pytest.mark.parametrize(
    ("format_name", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})]
)
def test_the_first_frame_counts(format_name, options):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    content = saved(frames[0], format_name, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3
    assert decode(io.BytesIO(content)).getpixel((4, 4)) == (255, 0, 0)


def test_limits_are_read_from_the_header(tmp_path):
    path = tmp_path / "bomb.png"
    for side, message in (
        (10_000, "has 10000 x 10000 pixels, more than the 89478485 that are allowed"),
        (20_000, "has more than twice the 89478485 pixels that are allowed"),
    ):
        path.write_bytes(png(side, side, 8, 2, b""))
        error = failure(path)
        assert error.kind == "too_large"
        assert message in str(error)
        assert "raise --max-pixels" in str(error)


def test_the_limit_is_ours_in_both_directions(monkeypatch):
    content = saved(smooth(), "PNG")
    assert failure(io.BytesIO(content), DecodePolicy(max_pixels=64 * 48 - 1)).kind == "too_large"
    assert decode(io.BytesIO(content), DecodePolicy(max_pixels=64 * 48)).size == (64, 48)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(io.BytesIO(content)).size == (64, 48)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
def test_truncated_files_fail_unless_accepted(format_name, tmp_path):
    path = tmp_path / "half"
    content = saved(
        Image.fromarray(np.random.default_rng(3).integers(0, 256, (99, 99, 3), dtype=np.uint8)), format_name
    )
    path.write_bytes(content[: len(content) * 2 // 3])
    error = failure(path)
    assert error.kind == "decode"
    assert repr(str(path)) in str(error)
    if format_name in ("JPEG", "PNG", "BMP"):
        assert str(error).endswith("To decode what is there, use --truncated accept.")
        image = decode(path, DecodePolicy(truncated="accept"))
        assert image.size == (99, 99)
        whole = decode(io.BytesIO(content))
        top, left = (60, 0) if format_name == "BMP" else (0, 0)  # a BMP starts at the bottom
        assert np.array_equal(np.asarray(image)[top : top + 30, left:], np.asarray(whole)[top : top + 30, left:])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    "content",
    [b"\0" * 100, b"Hello, this is no picture.\n" * 9, b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF",
     b"II*\0\xff\xff\xff\xff", b"BM" + b"\xff" * 60, b"P6 -3 4 255\n", b"P6 3 4 99999999999\n",
     np.random.default_rng(5).bytes(4096)],
    ids=range(11),
)  # fmt: skip
def test_junk_is_a_decode_error_that_names_the_file(content, tmp_path):
    path = tmp_path / "junk.jpg"
    path.write_bytes(content)
    error = failure(path)
    assert error.kind == "decode"
    assert repr(str(path)) in str(error)
    assert str(error).endswith(".")


@pytest.mark.parametrize(
    "raised",
    [OSError("broken data stream"), ValueError("x"), EOFError(), SyntaxError("x"), NotImplementedError("x"),
     TypeError("x"), IndexError("x"), KeyError("x"), struct.error("x"), ZeroDivisionError("x"), RuntimeError("x"),
     OverflowError("x"), RecursionError("x"), AssertionError()],
    ids=repr,
)  # fmt: skip
def test_whatever_a_decoder_raises_is_a_decode_error(raised, monkeypatch):
    def load(self):
        raise raised

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    error = failure(io.BytesIO(saved(smooth(), "BMP")))
    assert error.kind == "decode"
    assert str(error).startswith("The image on standard input cannot be decoded: ")


def test_lack_of_memory_and_a_failing_disk_have_their_own_kinds(monkeypatch):
    def fail(error):
        def load(self):
            raise error

        return load

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail(MemoryError()))
    error = failure(io.BytesIO(saved(smooth(), "BMP")))
    assert (error.kind, str(error)) == ("too_large", "The image on standard input needs more memory than there is.")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail(OSError(5, "Input/output error")))
    error = failure(io.BytesIO(saved(smooth(), "BMP")))
    assert (error.kind, str(error)) == ("io", "The image on standard input cannot be read: Input/output error.")


def test_files_that_cannot_be_opened(tmp_path):
    empty = tmp_path / "empty.png"
    empty.touch()
    assert (failure(empty).kind, str(failure(empty))) == ("decode", f"The image {str(empty)!r} is empty (0 bytes).")
    missing = failure(tmp_path / "missing.png")
    assert missing.kind == "io"
    assert str(missing) == f"The image {str(tmp_path / 'missing.png')!r} does not exist."
    folder = failure(tmp_path)
    assert (folder.kind, str(folder)) == ("io", f"The image {str(tmp_path)!r} is a folder, not a file.")
    too_long = failure(str(tmp_path / ("x" * 300)))
    assert too_long.kind == "io"
    assert "cannot be opened: File name too long" in str(too_long)
    nul = failure("a\0b")
    assert nul.kind == "io"
    assert r"The image 'a\x00b' cannot exist" in str(nul)


def test_names_that_are_no_text_can_be_decoded_and_told(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.png")
    Path(path).write_bytes(saved(smooth(), "PNG"))
    assert decode(path).size == (64, 48)
    Path(path).write_bytes(b"junk")
    str(failure(path)).encode()
    assert r"caf\udce9\n.png" in str(failure(path))


def test_pipes_sockets_and_devices_are_refused_without_being_opened(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    error = failure(pipe)  # opening it would wait for ever
    assert error.kind == "io"
    assert str(error) == (
        f"The image {str(pipe)!r} is a named pipe and is not opened; give a regular file, or its "
        "content as standard input (-)."
    )
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.jpg")
        assert "'s.jpg' is a socket" in str(failure("s.jpg"))
    assert "'/dev/null' is a device" in str(failure("/dev/null"))


def test_a_pipe_that_takes_the_place_of_a_file_is_found_out(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(smooth(), "JPEG"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    genuine = os.open
    monkeypatch.setattr(decode_module.os, "open", lambda path, flags: genuine(pipe, flags))
    assert "is a named pipe" in str(failure(path))


def test_streams_may_be_pipes_and_have_a_limit():
    reading, writing = os.pipe()
    os.write(writing, saved(smooth(), "PNG"))
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        assert decode(stream).size == (64, 48)
    error = failure(io.BytesIO(bytes(17 << 20)), DecodePolicy(max_pixels=100))
    assert error.kind == "too_large"
    assert f"is longer than {8 * 100 + 2**24} bytes" in str(error) and "Raise --max-pixels" in str(error)


def test_pillows_switches_are_put_back_after_success_and_failure():
    before = (list(warnings.filters), Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    decode(io.BytesIO(saved(smooth(), "PNG")), DecodePolicy(max_pixels=10**4, truncated="accept"))
    failure(io.BytesIO(b"junk"), DecodePolicy(max_pixels=10**4, truncated="accept"))
    assert (list(warnings.filters), Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == before


def test_policies_do_not_mix_between_threads(monkeypatch):
    """Truncated files fail in one thread and pass in the other, however the two interleave."""
    content = saved(Image.fromarray(np.random.default_rng(4).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")
    half = content[: len(content) // 2]

    def attempt(index: int) -> bool:
        policy = DecodePolicy(truncated="accept" if index % 2 else "refuse")
        try:
            decode(io.BytesIO(half), policy)
        except ImageError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(attempt, range(200))) == [index % 2 == 1 for index in range(200)]


def test_decodes_of_one_policy_run_side_by_side(monkeypatch):
    both = threading.Barrier(2, timeout=300)
    genuine = decode_module._decoded

    def meet(*arguments):
        both.wait()
        return genuine(*arguments)

    monkeypatch.setattr(decode_module, "_decoded", meet)
    with ThreadPoolExecutor(2) as pool:
        images = list(pool.map(decode, [io.BytesIO(saved(smooth(), "PNG")) for _ in range(2)]))
    assert [image.size for image in images] == [(64, 48)] * 2


def test_pngsuite_decodes_or_fails_as_listed():
    expected = [json.loads(line) for line in shared("data/pngsuite_expected.jsonl").read_text().splitlines()]
    with tarfile.open(shared("data/pngsuite.tar")) as archive:
        files = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
        for row in expected:
            source = io.BytesIO(files[Path(row["path"]).name].read())
            if row["status"] == "ok":
                image = decode(source)
                assert (image.mode, image.size) == ("RGB", (row["width"], row["height"])), row
            else:
                assert failure(source).kind == "decode", row
    assert len(expected) == 175
