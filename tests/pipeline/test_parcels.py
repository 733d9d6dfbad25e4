"""What a decoding process answers, on its way."""

import os
import pickle
import threading
from multiprocessing.connection import Pipe

import numpy as np
import pytest
from PIL import Image

from lrpcli.pipeline.parcels import packed, receive, send

RNG = np.random.default_rng(0)


def through(value):
    """The value at the other end, which reads while this one writes."""
    ours, theirs = Pipe()
    with ours, theirs:
        message, parts = packed(value)
        writing = threading.Thread(target=send, args=(ours, message, parts))
        writing.start()
        received = receive(theirs)
        writing.join()
    return received, len(message)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "1", "I", "F"])
def test_a_picture_arrives_with_its_pixels(mode):
    picture = Image.fromarray(RNG.integers(0, 256, (301, 700, 3), dtype=np.uint8)).convert(mode)
    received, size = through(picture)
    assert (received.mode, received.size) == (mode, (700, 301))
    assert received.tobytes() == picture.tobytes() and size < 1000


def test_arrays_arrive_as_they_are_and_can_be_written_to():
    pixels = RNG.normal(size=(3, 227, 227)).astype(np.float32)
    strided = RNG.normal(size=(400, 300))[::3, ::-2]
    empty = np.empty((0, 4), np.float32)
    (first, second, third, nothing), size = through((pixels, strided, pixels.T, empty))
    np.testing.assert_array_equal(first, pixels)
    np.testing.assert_array_equal(second, strided)
    np.testing.assert_array_equal(third, pixels.T)
    assert nothing.shape == (0, 4) and first.dtype == np.float32 and size < 400 * 300 * 8
    first += 1


def test_several_answers_keep_to_themselves():
    ours, theirs = Pipe()
    with ours, theirs:
        for number in range(3):
            send(ours, *packed((True, np.full(1000, number))))
        assert [receive(theirs)[1][999] for _ in range(3)] == [0, 1, 2]


def test_an_end_in_the_middle_of_an_answer_is_noticed():
    ours, theirs = Pipe()
    message, [part] = packed(np.zeros(10_000, np.uint8))
    ours.send_bytes(pickle.dumps((message, [part.nbytes])))
    os.write(ours.fileno(), part[:5000])
    ours.close()
    with theirs, pytest.raises(EOFError):
        receive(theirs)
