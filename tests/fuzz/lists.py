"""Lists that a user gives: of images, of boxes; a mask; and the config.json of a repository."""

import io
import json
from contextlib import suppress
from pathlib import Path

from lrpcli.errors import LrpError
from tests.resilience.target import Target


def _lists(folder: Path) -> tuple[bytes, bytes]:
    return b"a.png\r\n./b/c.jpg\n\n/d/../e.png\n", b"\xef\xbb\xbfa.png\0b\nc.png\0./-\0"


def _read_list(path: Path) -> object:
    """As `lrp explain` does; with --base and -0 too, where either may refuse it."""
    for null, base in ((True, None), (True, "."), (False, ".")):
        with suppress(LrpError):
            _sources(path, null=null, base=base)
    return _sources(path)


def _sources(path: Path, *, null: bool = False, base: str | None = None) -> object:
    """The images of a list. AssertionError if one of them would have its results outside of OUTPUT."""
    from lrpcli.cli.inputs import InputSettings, find_sources
    from lrpcli.images.formats import DecodePolicy

    settings = InputSettings(files_from=str(path), null=null, base=base)
    sources, _ = find_sources((), path.parent / "out", settings, DecodePolicy())
    for source in sources:
        assert not {"", ".", ".."} & set(source.name.split("/")), source
    return sources


def _boxes(folder: Path) -> tuple[bytes, bytes]:
    rows = b"n01/a.JPEG,1,2,30.5,40\nb.png,0,0,9,9\nb.png,1,1,3,3\n"
    return b"file,x1,y1,x2,y2\n" + rows, b'label,x1_224,y1_224,x2_224,y2_224,"file"\n7,1,2,3,4,"a,b.png"\n'


def _read_boxes(path: Path) -> object:
    import numpy as np

    from lrpcli.evaluation.localisation import inside_boxes, read_boxes
    from lrpcli.images.placement import Placement

    boxes = read_boxes(str(path))
    place = Placement((40, 48), (0.0, 0.0, 40.0, 48.0), (32, 32))
    for file in ("n01/a.JPEG", "b.png", "a,b.png"):
        inside = inside_boxes(boxes.of(file), place)
        assert inside.shape == (32, 32) and inside.dtype == np.bool_
    return boxes


def _masks(folder: Path) -> tuple[bytes, bytes]:
    from PIL import Image

    samples = []
    for kind, mode in (("PNG", "L"), ("TIFF", "1")):
        picture, file = Image.new(mode, (20, 12)), io.BytesIO()
        picture.putpixel((3, 4), 1)
        picture.save(file, kind)
        samples.append(file.getvalue())
    return samples[0], samples[1]


def _read_mask(path: Path) -> object:
    from lrpcli.images.formats import DecodePolicy
    from lrpcli.images.masks import decode_mask, mask_policy

    return decode_mask(io.BytesIO(path.read_bytes()), mask_policy(DecodePolicy(max_pixels=2**22)), "The mask")


def _repositories(folder: Path) -> tuple[bytes, bytes]:
    config = {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "crop_pct": 0.9,
              "interpolation": "bicubic", "first_conv": "conv1", "classifier": "fc"}  # fmt: skip
    first = {"architecture": "resnet18", "num_classes": 7, "model_args": {"in_chans": 3}, "pretrained_cfg": config}
    second = {"architecture": "resnet18", "label_names": ["a", "b"], "num_classes": 2, **config}
    return json.dumps(first).encode(), json.dumps(second, indent=1).encode()


def _read_repository(path: Path) -> object:
    from lrpcli.models.zoo.timm_config import described

    return described(path, "somebody/something")


TARGETS = {
    "list": Target(".txt", _lists, _read_list),
    "boxes": Target(".csv", _boxes, _read_boxes),
    "mask": Target(".png", _masks, _read_mask),
    "repository": Target(".json", _repositories, _read_repository),
}
