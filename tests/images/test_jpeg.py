"""JPEGs that are damaged inside, against another build of libjpeg: OpenCV's, which writes its warnings to stderr."""

import io
import os
import random
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lrpcli.images import jpeg
from lrpcli.images.decode import DecodePolicy, decode
from tests.images.pictures import failure, saved, smooth

END = b"\xff\xd9"


def noisy(mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    blurred = Image.fromarray(pixels).resize((60, 45)).resize((120, 90)).convert(mode)
    return saved(blurred, "JPEG", quality=85, **options)


KINDS = {
    "baseline": noisy(),
    "progressive": noisy(progressive=True),
    "restarts": noisy(restart_marker_blocks=2),
    "grey": noisy("L"),
    "inks": noisy("CMYK"),
    "unsampled": noisy(subsampling=0, optimize=True),
}


def scan(content: bytes) -> int:
    """Where the packed pixels begin."""
    start = content.index(b"\xff\xda")
    return start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")


def early_end(content: bytes) -> bytes:
    return content[: (scan(content) + len(content)) // 2] + END


def end_within(content: bytes) -> bytes:
    middle = (scan(content) + len(content)) // 2
    return content[:middle] + END + content[middle:]


def gap(content: bytes) -> bytes:
    length = len(content) - scan(content)
    return content[: scan(content) + length // 3] + content[scan(content) + 2 * length // 3 :]


def extra(content: bytes) -> bytes:
    return content[:-2] + b"\x12\x34\x56" * 9 + END


def no_end(content: bytes) -> bytes:
    return content[:-2]


def wrong_restart(content: bytes) -> bytes:
    middle = (scan(content) + len(content)) // 2
    return content[:middle] + b"\xff\xd6" + content[middle:]


DAMAGES = (early_end, end_within, gap, extra, no_end, wrong_restart)


def warnings_of_opencv(content: bytes) -> str:
    """What OpenCV's libjpeg writes to standard error."""
    sys.stderr.flush()
    kept, file = os.dup(2), os.memfd_create("opencv")
    os.dup2(file, 2)
    try:
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    with os.fdopen(file, "rb") as stream:
        stream.seek(0)
        return stream.read().decode().strip()


def is_decoded_by_pillow(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.decodermaxblock = max(len(content), 65536)
            image.load()
    except OSError:
        return False
    return True


def test_libjpeg_is_asked_here():
    assert jpeg.why_unchecked() is None
    assert jpeg.libjpeg_name().endswith("which is asked for damage")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_fail_by_name_unless_accepted(kind, damage, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(damage(KINDS[kind]))
    if damage is not no_end:  # at which OpenCV does not look
        assert warnings_of_opencv(path.read_bytes()), "OpenCV sees the damage too"
    error = failure(path)
    assert error.kind == "decode" and repr(str(path)) in str(error)
    assert str(error).endswith("To decode what is there, use --truncated accept.")
    assert decode(path, DecodePolicy(truncated="accept")).size == (120, 90)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_pass(kind):
    assert warnings_of_opencv(KINDS[kind]) == ""
    assert jpeg.find_damage(KINDS[kind]) is None
    assert decode(io.BytesIO(KINDS[kind])).size == (120, 90)


def test_what_follows_the_end_is_no_damage():
    assert decode(io.BytesIO(KINDS["baseline"] + b"trailer of a camera" * 99)).size == (120, 90)
    buffer = io.BytesIO()
    smooth().save(buffer, "MPO", save_all=True, append_images=[smooth()])
    assert decode(io.BytesIO(buffer.getvalue())).size == (64, 48)
    damaged = early_end(KINDS["baseline"])
    assert failure(io.BytesIO(damaged + buffer.getvalue())).kind == "decode"


def test_random_damage_is_seen_where_another_libjpeg_sees_it():
    generator, seen, unseen = random.Random(7), 0, 0
    for number in range(600):
        content = bytearray(KINDS[list(KINDS)[number % len(KINDS)]])
        start = scan(bytes(content))
        for _ in range(generator.choice((1, 1, 4))):
            content[generator.randrange(start, len(content) - 2)] = generator.randrange(256)
        if not is_decoded_by_pillow(bytes(content)):
            continue
        warned = warnings_of_opencv(bytes(content))
        assert (jpeg.find_damage(bytes(content)) is not None) == bool(warned), (number, warned)
        seen, unseen = seen + bool(warned), unseen + (not warned)
    assert seen > 50 and unseen > 50


def test_a_fatal_error_costs_a_thread_and_no_process():
    before = threading.active_count()
    assert jpeg.find_damage(b"\xff\xd8 no picture at all") is not None
    assert threading.active_count() == before + 1
    assert jpeg.find_damage(KINDS["baseline"]) is None


def test_threads_do_not_mix():
    contents = [KINDS["baseline"], early_end(KINDS["baseline"])] * 40
    answers: list[object] = [None] * len(contents)

    def ask(index: int) -> None:
        answers[index] = jpeg.find_damage(contents[index]) is not None

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(contents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [False, True] * 40


def test_without_libjpeg_a_missing_end_is_still_found(monkeypatch):
    monkeypatch.setattr(jpeg, "_library", lambda: "it is not here")
    assert jpeg.find_damage(KINDS["progressive"]) is None
    assert jpeg.find_damage(no_end(KINDS["progressive"])) == "Premature end of JPEG file"
    assert jpeg.why_unchecked() == "it is not here" and "it is not here" in jpeg.libjpeg_name()


def test_an_unknown_interface_is_not_tried(monkeypatch):
    monkeypatch.setattr(jpeg, "_version", lambda: 91)
    assert "is not known" in jpeg._library.__wrapped__()


def test_the_interface_of_version_8_is_read_too():
    """torchvision brings a libjpeg of that version on Linux."""
    import ctypes
    from importlib.util import find_spec

    folder = Path(find_spec("torchvision").origin).parent.parent / "torchvision.libs"
    found = sorted(folder.glob("libjpeg*.so.8*"))
    if not found:
        pytest.skip("torchvision brings no libjpeg of version 8 here")
    library = ctypes.CDLL(str(found[0]))
    assert jpeg.first_warning(library, 80, KINDS["baseline"]) is None
    assert "premature end" in jpeg.first_warning(library, 80, early_end(KINDS["baseline"]))
