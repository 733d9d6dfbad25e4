"""Files that bear the name of a model and are something else: what their first bytes say they are."""

import re
from dataclasses import dataclass

from lrpcli.text_files import LFS_POINTER

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ONNX_BEGINNING = re.compile(rb"\x08[\x03-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]")
"""The version of the format, and the field after it: Caffe's files have others."""
OF_EXPORT = re.compile(rb"/archive_format|/data/weights/|/models/\w+\.json|serialized_exported_program")
OF_PYTORCH = re.compile(rb"data\.pkl|/version|/data/0")
"""Names of parts in zip files of torch.export, and in those of torch.save and TorchScript."""
PRINTABLE = re.compile(rb"[\t\n\r\f\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True)
class Kind:
    """What a file is: a `name` for the code, and a `sentence` for people."""

    name: str
    sentence: str


EMPTY = Kind("empty", "it is empty. Fetch the file again.")
PAGE = Kind("page", "it is a web page, as servers send one in place of a file. Fetch the file itself.")
TEXT = Kind("text", "it is text. A net description is given as --prototxt FILE, beside the weights.")
POINTER = Kind("pointer", "it is a Git LFS pointer that stands for the file. Fetch the file with 'git lfs pull'.")
PICKLE = Kind(
    "pickle",
    "it is a file of PyTorch (.pt, .pth), or another pickle, which holds weights without their net, or could run any "
    "code. Give the code that makes the net, and the file beside it: --model net.py:make --weights FILE, or of a net "
    "of torchvision or timm its name: --model torchvision:resnet18 --weights FILE.",
)
PROGRAM = Kind(
    "program",
    "it is a program that torch.export saved, a net with its weights. Name it .pt2 and give it as the model.",
)
HDF5 = Kind("hdf5", "it is an HDF5 file. Caffe's are named .caffemodel.h5.")
SAFETENSORS = Kind("safetensors", "it is a safetensors file. Name it .safetensors.")
ONNX = Kind("onnx", "it is an ONNX file. Name it .onnx.")
NUMPY = Kind("numpy", "it is a NumPy array. A mean image is given as --mean FILE.")


def _archive(name: str) -> Kind:
    return Kind("archive", f"it is a {name} archive. Unpack it, and give the file in it.")


BEGINNINGS = (
    (LFS_POINTER, POINTER),
    (HDF5_MAGIC, HDF5),
    (b"\x93NUMPY", NUMPY),
    (b"PK\x03\x04", _archive("zip")),
    (b"\x1f\x8b", _archive("gzip")),
    (b"BZh9", _archive("bzip2")),
    (b"\xfd7zXZ\x00", _archive("xz")),
    (b"7z\xbc\xaf\x27\x1c", _archive("7z")),
    (b"\x28\xb5\x2f\xfd", _archive("zstd")),
    (b"Rar!\x1a", _archive("rar")),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"\x89PNG\r\n", Kind("image", "it is a PNG image.")),
    (b"\xff\xd8\xff", Kind("image", "it is a JPEG image.")),
    (b"%PDF-", Kind("document", "it is a PDF document.")),
)


def recognise(head: bytes, size: int) -> Kind | None:
    r"""What a file is by its first bytes, of which there should be 512 or more, and its size; None if unknown.

    >>> from lrpcli.models.recognise import recognise
    >>> recognise(b"<!DOCTYPE html><html>", 21).sentence
    'it is a web page, as servers send one in place of a file. Fetch the file itself.'
    >>> recognise(b"\\x0a\\x07CaffeNet", 243862418) is None
    True
    """
    if size == 0:
        return EMPTY
    if head.startswith(b"PK\x03\x04") and OF_EXPORT.search(head):
        return PROGRAM
    if head.startswith(b"PK\x03\x04") and OF_PYTORCH.search(head):
        return PICKLE
    for beginning, kind in BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[257:262] == b"ustar":
        return _archive("tar")
    if ONNX_BEGINNING.match(head):
        return ONNX
    start = head.lstrip()[:200].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return PAGE
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size:
        return SAFETENSORS
    return TEXT if PRINTABLE.fullmatch(head) else None
