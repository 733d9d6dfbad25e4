"""Random damage to every kind of file that the project reads: it is read, or refused with an error of our own.

Each batch of mutations runs in a process of its own with 4 GB of address space, and each mutation has 20 seconds. The
seeds are fixed: a mutation is known by its target and number, and `mutated` makes it again.

By hand: python -m tests.resilience.mutations [TARGET]... [--count 300]
"""

import argparse
import collections
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from lrpcli.errors import LrpError
from tests.fuzz import lists, records, structure
from tests.fuzz.outside import UNWATCHED, Watch
from tests.resilience.runs import ROOT, environment
from tests.resilience.target import Target, command

if TYPE_CHECKING:
    from torch import nn

ADDRESS_SPACE = 4 * 2**30
SECONDS = 20
COUNT = 300
KEPT = ROOT / "tests" / "fuzz" / "kept"
START = ("-m", "tests.resilience.mutations")
INFLATED = [b"9" * 20, b"9" * 5000, b"-1", b"0", b"1e400", b"nan", b"4294967296", b"2147483647"]


def mutated(name: str, number: int, sample: bytes, other: bytes) -> bytes:
    """The damaged file of that number."""
    chance = random.Random(f"{name} {number}")

    def damaged(data: bytes) -> bytes:
        return chance.choice(KINDS)(chance, data, other)

    found = structure.damaged(name, chance, sample, other, damaged) if number % 2 else None
    return damaged(sample) if found is None else found


def kept(name: str) -> list[Path]:
    """Inputs that broke a promise before, see tests/fuzz."""
    return sorted((KEPT / name.replace(" ", "-")).glob("*"))


def _flip_bits(chance: random.Random, data: bytes, other: bytes) -> bytes:
    damaged = bytearray(data)
    # Structure often lies at the front; the numbers behind it may take any value.
    end = len(data) if chance.random() < 0.5 else min(len(data), 2500)
    for _ in range(chance.randint(1, 20)):
        damaged[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _overwrite(chance: random.Random, data: bytes, other: bytes) -> bytes:
    start, end = _part(chance, data)
    fill = chance.choice([b"\x00", b"\xff", b"\x7f", b"{", b"\n"])
    return (
        data[:start] + (fill * (end - start) if chance.random() < 0.5 else chance.randbytes(end - start)) + data[end:]
    )


def _cut_off(chance: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def _cut_out(chance: random.Random, data: bytes, other: bytes) -> bytes:
    start, end = _part(chance, data)
    return data[:start] + data[end:]


def _duplicate(chance: random.Random, data: bytes, other: bytes) -> bytes:
    start, end = _part(chance, data)
    return data[:end] + data[start:end] * chance.choice([1, 1, 2, 50]) + data[end:]


def _splice(chance: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


def _inflate(chance: random.Random, data: bytes, other: bytes) -> bytes:
    numbers = list(re.finditer(rb"\d+", data))
    if not numbers:
        return _overwrite(chance, data, other)
    found = chance.choice(numbers)
    return data[: found.start()] + chance.choice(INFLATED) + data[found.end() :]


def _part(chance: random.Random, data: bytes) -> tuple[int, int]:
    start = chance.randrange(len(data))
    return start, min(len(data), start + chance.choice([1, 2, 4, 8, 30, 200]))


KINDS = (_flip_bits, _overwrite, _cut_off, _cut_out, _duplicate, _splice, _inflate)


def _tiny_blobs(folder: Path) -> dict:
    """The weights of a tiny net, whose description is written beside them."""
    from tests.models.files import TINY, random_blobs

    prototxt = folder / "net.prototxt"
    prototxt.write_text(TINY)
    return random_blobs(prototxt)


def _caffemodels(folder: Path) -> tuple[bytes, bytes]:
    from tests.models.files import TINY, as_v1, write_caffemodel

    blobs = _tiny_blobs(folder)
    second = write_caffemodel(folder / "second.caffemodel", blobs, as_v1(TINY), version=1)
    return write_caffemodel(folder / "first.caffemodel", blobs, TINY).read_bytes(), second.read_bytes()


def _hdf5(folder: Path) -> tuple[bytes, bytes]:
    from tests.models.files import write_hdf5

    blobs = _tiny_blobs(folder)
    second = write_hdf5(folder / "second.caffemodel.h5", {f"a/{name}": arrays for name, arrays in blobs.items()})
    return write_hdf5(folder / "first.caffemodel.h5", blobs).read_bytes(), second.read_bytes()


def _safetensors(folder: Path) -> tuple[bytes, bytes]:
    import numpy as np

    from tests.models.files import TINY, write_safetensors

    blobs = _tiny_blobs(folder)
    known = {"preprocessing": {"resize": [20, 20], "mean": [1.0, 2.0, 3.0]}, "labels": "a\nb\nc\nd", "licence": "CC0"}
    second = write_safetensors(folder / "second.safetensors", blobs, np.float16, prototxt=TINY)
    first = write_safetensors(folder / "first.safetensors", blobs, prototxt=TINY, **known)
    return first.read_bytes(), second.read_bytes()


def _state_dicts(folder: Path) -> tuple[bytes, bytes]:
    import torch

    samples = []
    for zipped in (True, False):
        torch.save({"state_dict": _net().state_dict()}, folder / "w.pt", _use_new_zipfile_serialization=zipped)
        samples.append((folder / "w.pt").read_bytes())
    return samples[0], samples[1]


def _net() -> "nn.Module":
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


def _programs(folder: Path) -> tuple[bytes, bytes]:
    import torch

    path = folder / "net.pt2"
    samples = []
    for images in (1, 2):
        program = torch.export.export(_net(), (torch.zeros(images, 3, 8, 8),))
        torch.export.save(program, path, extra_files={"labels": "a\nb\nc\nd\ne"})
        samples.append(path.read_bytes())
    return samples[0], samples[1]


def _read_state_dict(path: Path) -> object:
    from lrpcli.models.state_dicts import load_weights

    return load_weights(_net(), path, "the net")


def _onnx(folder: Path) -> tuple[bytes, bytes]:
    """Numbers in the file, and beside it."""
    import onnx

    from tests.models.onnx.files import make, small, small_nodes, small_tensors

    model = make(small_nodes(), small_tensors(), (None, 3, 8, 8), opset=21)
    onnx.save(model, folder / "second.onnx", save_as_external_data=True, location="data.bin", size_threshold=0)
    return small(folder / "first.onnx").read_bytes(), (folder / "second.onnx").read_bytes()


def _prototxts(folder: Path) -> tuple[bytes, bytes]:
    from tests.fuzz.nets import RICH, rich_blobs
    from tests.models.files import TINY, write_caffemodel

    write_caffemodel(folder / "weights.caffemodel", {**_tiny_blobs(folder), **rich_blobs()})
    return TINY.encode(), RICH.encode()


def _read_model(path: Path) -> object:
    from lrpcli.models import load_model
    from tests.fuzz.nets import explained

    return explained(load_model(path))


def _read_hdf5(path: Path) -> object:
    from lrpcli.models import load_model
    from tests.fuzz.nets import explained

    return explained(load_model(path, prototxt=path.with_name("net.prototxt")))


def _read_prototxt(path: Path) -> object:
    from lrpcli.models import load_model
    from tests.fuzz.nets import explained

    return explained(load_model(path.with_name("weights.caffemodel"), prototxt=path))


def _labels(folder: Path) -> tuple[bytes, bytes]:
    from lrpcli.models.zoo.registry import PACKAGE

    return b"n00000001 red, crimson\ngreen\nblue, azure\n", (PACKAGE / "data" / "imagenet_labels.txt").read_bytes()


def _read_labels(path: Path) -> object:
    from lrpcli.models.labels import read_labels

    return read_labels(path)


def _means(folder: Path) -> tuple[bytes, bytes]:
    import numpy as np

    from lrpcli.models.caffe.schema import messages

    mean = np.arange(3 * 8 * 8, dtype="<f4").reshape(3, 8, 8)
    blob = messages()["BlobProto"](num=1, channels=3, height=8, width=8, data=[mean.tobytes()])
    file = io.BytesIO()
    np.save(file, mean)
    return blob.SerializeToString(), file.getvalue()


def _read_mean(path: Path) -> object:
    from lrpcli.models.preprocessing import read_mean_image

    return read_mean_image(path)


def _configs(folder: Path) -> tuple[bytes, bytes]:
    from lrpcli.lrp.composites.composite import config_folder

    first, second = (config_folder() / f"{name}.toml" for name in ("epsilon-gamma-box", "alpha2-beta1-epsilon"))
    return first.read_bytes(), second.read_bytes()


def _read_config(path: Path) -> object:
    from lrpcli.lrp.composites.composite import load_composite

    return load_composite(path)


def _settings(folder: Path) -> tuple[bytes, bytes]:
    return b'batch-size = 3\nstyle = "contour"\nalpha = 0.5\ntarget = ["tabby", "3"]\n', b"mean = [1, 2, 3]\njobs = 2\n"


def _read_settings(path: Path) -> object:
    return command("explain", "--settings", path, "--show-settings", "--json")


def _journals(folder: Path) -> tuple[bytes, bytes]:
    from tests.photos import photo
    from tests.resilience.runs import explain

    samples = []
    for name in ("first", "second"):
        photo(folder / name / "a.png")
        photo(folder / name / "b.png")
        explain(folder / name, folder / f"out-{name}", "--save", "map")
        samples.append((folder / f"out-{name}" / ".lrp" / "journal-1-of-1.jsonl").read_bytes())
    return samples[0], samples[1]


def _read_journal(path: Path) -> object:
    """What a second run and `lrp status` do with it."""
    from lrpcli.pipeline.shard import WHOLE
    from lrpcli.records.description import EXPLAIN_FILES, read_description
    from lrpcli.records.explained import Explained
    from lrpcli.records.resume import ENDED, Resume

    output = path.parent / "out-first"
    shutil.copyfile(path, output / ".lrp" / "journal-1-of-1.jsonl")
    description = read_description(output, EXPLAIN_FILES)
    assert description is not None
    with Resume(output, EXPLAIN_FILES, Explained, description.fingerprint, WHOLE.name) as resume:
        for name in ("a.png", "b.png"):
            source = str(path.parent / "first" / name)
            if resume.look(source, name) == ENDED:
                resume.record(source, name).as_shown()
    return command("status", output)


def _evaluate(folder: Path, name: str) -> object:
    from tests.resilience.runs import TINY_OPTIONS

    return command("evaluate", *TINY_OPTIONS, "--region", 16, "--steps", 2, "--config", "epsilon",
                    "--timeout", 0, "-j", 1, folder / name, "-o", folder / f"evaluated-{name}")  # fmt: skip


def _evaluations(folder: Path) -> tuple[bytes, bytes]:
    from tests.photos import photo

    samples = []
    for name in ("first", "second"):
        photo(folder / name / "a.png")
        photo(folder / name / "b.png", 1)
        _evaluate(folder, name)
        samples.append((folder / f"evaluated-{name}" / ".lrp" / "evaluate-1-of-1.jsonl").read_bytes())
    return samples[0], samples[1]


def _read_evaluation(path: Path) -> object:
    """What the same command makes of a damaged journal."""
    output = path.parent / "evaluated-first"
    shutil.copyfile(path, output / ".lrp" / "evaluate-1-of-1.jsonl")
    (output / "results.json").unlink(missing_ok=True)
    result = _evaluate(path.parent, "first")
    json.loads((output / "results.json").read_text())
    return result


def _measurements(folder: Path) -> tuple[bytes, bytes]:
    import numpy as np

    from lrpcli.evaluation.measurement import Measurement

    curve = np.linspace(1, 0.1, 5)
    values = {"status": "ok", "target": 3, "label": "cat", "seconds": 0.5, "area": 0.25,
              "localisation": {"epsilon": (True, 0.5)}}  # fmt: skip
    samples = [
        Measurement(input=name, name=name, curves={"epsilon": {"morf": curve, "random": curve}}, **values).as_json()
        for name in ("a.png", "b.png")
    ]
    return json.dumps(samples[0]).encode(), json.dumps(samples[1]).encode()


def _read_measurement(path: Path) -> object:
    """A line that cannot be read is a ValueError, which the journal's readers take for a torn line."""
    from lrpcli.evaluation.measurement import Measurement
    from lrpcli.records.json_values import as_fields

    try:
        return Measurement.from_json(as_fields(json.loads(path.read_bytes()))).as_shown()
    except (ValueError, RecursionError) as error:
        raise LrpError(str(error) or "nested too deeply") from error


TARGETS = {
    "caffemodel": Target(".caffemodel", _caffemodels, _read_model),
    "hdf5": Target(".caffemodel.h5", _hdf5, _read_hdf5),
    "onnx": Target(".onnx", _onnx, _read_model),
    "safetensors": Target(".safetensors", _safetensors, _read_model),
    "state dict": Target(".pt", _state_dicts, _read_state_dict),
    "pt2": Target(".pt2", _programs, _read_model),
    "prototxt": Target(".prototxt", _prototxts, _read_prototxt),
    "labels": Target(".txt", _labels, _read_labels),
    "mean": Target(".binaryproto", _means, _read_mean),
    "config": Target(".toml", _configs, _read_config),
    "settings": Target(".toml", _settings, _read_settings),
    "journal": Target(".jsonl", _journals, _read_journal),
    "evaluation": Target(".jsonl", _evaluations, _read_evaluation),
    "measurement": Target(".json", _measurements, _read_measurement),
    **lists.TARGETS,
    **records.TARGETS,
}


def outcomes(name: str, count: int) -> dict[int, str]:
    """What became of each mutation of a target, and of what is kept for it: "read", "refused", or what went wrong."""
    found: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        while len(found) < count + len(kept(name)):
            lines = list(_batch(name, len(found), count, Path(folder)))
            found.update({int(line["number"]): str(line["outcome"]) for line in lines})
    return found


def _batch(name: str, start: int, count: int, folder: Path) -> Iterator[dict[str, object]]:
    """Runs mutations in a process until one ends it, for which there is then an outcome too."""
    line = [sys.executable, *START, "--batch", name, str(start), str(count), str(folder)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, env=environment())
    results = [json.loads(row) for row in ended.stdout.splitlines() if row.startswith('{"number"')]
    yield from results
    if start + len(results) < count + len(kept(name)):
        if ended.returncode not in (-signal.SIGALRM, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGKILL, -signal.SIGBUS):
            raise RuntimeError(f"the batch ended with {ended.returncode}: {ended.stderr[-3000:]}")
        how = "took too long" if ended.returncode == -signal.SIGALRM else f"died of signal {-ended.returncode}"
        yield {"number": start + len(results), "outcome": how}


def begin_batch(arguments: list[str]) -> None:
    """What the process of a batch does: --batch TARGET FIRST END FOLDER."""
    _, name, start, count, folder = arguments
    _work(name, int(start), int(count), Path(folder))


def _work(name: str, start: int, count: int, folder: Path) -> None:
    """The process of a batch: a line on stdout per mutation."""
    target = TARGETS[name]
    sample, other = target.samples(folder)
    good = folder / f"good{target.suffix}"
    good.write_bytes(sample)
    target.read(good)  # everything that it needs is imported now, and an undamaged file can be read
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    path, files = folder / f"mutated{target.suffix}", kept(name)
    watch, sys.dont_write_bytecode = Watch(folder), True
    os.chdir(folder)
    for number in range(start, count + len(files)):
        path.write_bytes(mutated(name, number, sample, other) if number < count else files[number - count].read_bytes())
        signal.alarm(SECONDS)  # ends the process: what hangs in C would not let Python raise anything
        outcome = _outcome(target.read, path, nullcontext() if name in UNWATCHED else watch.watching())
        signal.alarm(0)
        print("\n" + json.dumps({"number": number, "outcome": outcome}), flush=True)


def _outcome(read: Callable[[Path], object], path: Path, watching: AbstractContextManager[None]) -> str:
    try:
        with watching:
            read(path)
    except LrpError as error:
        return "refused" if str(error).strip() else "refused without a word"
    except BaseException:
        return traceback.format_exc()
    return "read"


def main() -> None:
    """Prints how many of each target's mutations were read and refused; exit 1 if anything else happened."""
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--count", type=int, default=COUNT)
    chosen = parser.parse_args()
    wrong = False
    for name in chosen.targets or TARGETS:
        found = outcomes(name, chosen.count)
        counted = collections.Counter(text if text in ("read", "refused") else "wrong" for text in found.values())
        print(name, dict(counted), flush=True)
        for number, text in found.items():
            if text not in ("read", "refused"):
                wrong = True
                print(f"--- {name} {number}: {text}", flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--batch"]:
        begin_batch(sys.argv[1:])
    else:
        main()
