"""Boxes, pointing game and share inside on maps whose answers are known."""

import numpy as np
import pytest

from lrpcli.errors import UsageError
from lrpcli.evaluation.localisation import inside_boxes, points_inside, read_boxes, share_inside
from lrpcli.images.placement import Placement
from tests.shared import shared

WHOLE = Placement((40, 80), (0.0, 0.0, 80.0, 40.0), (20, 20))  # a cell is 4 x 2 pixels of the photo
HEADER = "file,x1,y1,x2,y2\n"


def boxes_file(tmp_path, text):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    return str(path)


def test_cells_are_inside_by_their_centres():
    inside = inside_boxes([(8, 10, 24, 20)], WHOLE)
    assert inside.sum() == 4 * 5 and inside[5:10, 2:6].all()
    assert inside_boxes([(9.9, 11.1, 10.1, 12), (0, 0, 80, 0.9)], WHOLE).sum() == 0
    both = inside_boxes([(8, 10, 24, 20), (8, 14, 32, 20)], WHOLE)
    assert both.sum() == 20 + 2 * 3  # where boxes overlap, once


def test_the_part_that_the_model_saw():
    """A centre crop: the grid covers 20..60 x 0..40 of the photo, a cell is 2 x 2 pixels."""
    crop = Placement((40, 80), (20.0, 0.0, 60.0, 40.0), (20, 20))
    inside = inside_boxes([(0, 0, 30, 40)], crop)
    assert inside[:, :5].all() and not inside[:, 5:].any()
    assert not inside_boxes([(62, 0, 80, 40)], crop).any()


def test_pointing():
    inside = inside_boxes([(8, 10, 24, 20)], WHOLE)
    for row, column, hit in ((7, 4, True), (15, 15, False)):
        scores = np.full((20, 20), -0.1, np.float32)
        scores[row, column] = 5
        assert points_inside(scores, inside) is hit
    assert points_inside(np.zeros((20, 20), np.float32), inside) is False
    assert points_inside(np.full((20, 20), -1, np.float32), np.ones((20, 20), bool)) is False


def test_a_lone_pixel_does_not_outweigh_a_patch():
    """At 100 pixels the Gaussian is 2 wide: four pixels of 3 side by side stand above one of 4."""
    scores = np.zeros((100, 100), np.float32)
    scores[80, 80] = 4
    scores[20:22, 20:22] = 3
    patch = np.zeros((100, 100), bool)
    patch[15:27, 15:27] = True
    assert points_inside(scores, patch) is True and points_inside(scores, ~patch) is False


def test_the_share_of_positive_relevance():
    inside = np.zeros((20, 20), bool)
    inside[:10, :5] = True
    assert share_inside(np.ones((20, 20), np.float32), inside) == pytest.approx(inside.mean())
    scores = np.full((20, 20), -3, np.float32)
    scores[0, 0], scores[19, 19] = 3, 1
    assert share_inside(scores, inside) == pytest.approx(0.75)
    assert share_inside(np.full((20, 20), -3, np.float32), inside) is None


def test_files_and_their_boxes(tmp_path):
    rows = "a.jpg,1,2,3,4\na.jpg,5,6,7,8\ncats/b.jpg,1,1,2,2\n/data/c.jpg,0,0,1,1\n"
    boxes = read_boxes(boxes_file(tmp_path, HEADER + rows))
    assert boxes.of("a.jpg") == boxes.of("/any/where/a.jpg") == [(1, 2, 3, 4), (5, 6, 7, 8)]
    assert boxes.of("in/cats/b.jpg") == boxes.of("./cats//b.jpg") == [(1, 1, 2, 2)]
    assert boxes.of("copycats/b.jpg") == boxes.of("b.jpg") == boxes.of("xa.jpg") == []
    assert boxes.of("/data/c.jpg") == [(0, 0, 1, 1)]
    boxes.require_any(["nothing.jpg", "x/a.jpg"], "boxes.csv")
    with pytest.raises(UsageError, match="None of the images is named in 'boxes.csv'"):
        boxes.require_any(["nothing.jpg"], "boxes.csv")


def test_columns_with_more_behind_their_names(tmp_path):
    boxes = read_boxes(boxes_file(tmp_path, "name,file,orig_w,y2_224,x1_224,y1_224,x2_224\ncat,a.jpg,500,4,1,2,3\n"))
    assert boxes.of("a.jpg") == [(1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "need the columns file, x1, y1, x2 and y2"),
        ("name,x1,y1,x2,y2\n", "need the columns .* there are: name, x1"),
        ("file,x1,y1,x2\n", "need the columns"),
        ("file,x1,x1_224,y1,x2,y2\n", "several columns that could be file, x1"),
        ("file,file,x1,y1,x2,y2\n", "several columns that could be file, x1"),
        (HEADER + "a.jpg,1,2,3,4\na.jpg,1,2,3\n", "line 3 of .* the box 1, 2, 3, None is not four numbers"),
        (HEADER + "a.jpg,1,2,3,wide\n", "line 2 of .* is not four numbers"),
        (HEADER + "a.jpg,3,2,1,4\n", "the box 3, 2, 1, 4 is not left, top, right, bottom"),
        (HEADER + "a.jpg,0,0,nan,4\n", "is not left, top, right, bottom"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read_boxes(boxes_file(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_boxes(str(tmp_path / "none.csv"))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no CSV file: it is UTF-16 text; save it as UTF-8"):
        read_boxes(str(tmp_path / "binary.csv"))


def test_real_boxes(tmp_path):
    import tarfile

    with tarfile.open(shared("data/imagenette_boxes500.tar")) as archive:
        member = next(name for name in archive.getnames() if name.endswith("boxes.csv"))
        archive.extract(member, tmp_path, filter="data")
    boxes = read_boxes(str(tmp_path / member))
    assert sum(map(len, boxes.by_name.values())) == 813
    assert len(boxes.of("n01440764/ILSVRC2012_val_00000293.JPEG")) == 2
