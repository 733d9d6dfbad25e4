"""What runs leave in an output folder: descriptions, journals of shards, of tars and of comparisons."""

import shutil
from contextlib import closing
from pathlib import Path

from tests.resilience.target import Target, command

NAMES = ("a.png", "b.png", "c.png", "d.png")


def _photos(folder: Path) -> Path:
    from tests.photos import photo

    for seed, name in enumerate(NAMES):
        photo(folder / "photos" / name, seed)
    return folder / "photos"


def _run(folder: Path, name: str, *options: object) -> Path:
    """The folder OUTPUT/.lrp of a run that has its output there."""
    from tests.resilience.runs import TINY_OPTIONS

    command("explain", *TINY_OPTIONS, _photos(folder), folder / name, "--timeout", 0, "-j", 1, "--save", "map",
            *options)  # fmt: skip
    return folder / name / ".lrp"


def _descriptions(folder: Path) -> tuple[bytes, bytes]:
    first, second = _run(folder, "plain"), _run(folder, "packed", "--pack", "tar", "--config", "epsilon")
    return (first / "run.json").read_bytes(), (second / "run.json").read_bytes()


def _read_description(path: Path) -> object:
    """What `lrp status`, `lrp table` and a run with other settings make of it."""
    from lrpcli.records.description import EXPLAIN_FILES, RunDescription, read_description

    output = path.parent / "plain"
    shutil.copyfile(path, output / ".lrp" / "run.json")
    found = read_description(output, EXPLAIN_FILES)
    assert found is not None
    found.differences(RunDescription("other", None, {}, {}, "1"))
    return found.fingerprint, command("status", output), command("table", output)


def _shards(folder: Path) -> tuple[bytes, bytes]:
    for number in (1, 2):
        lines = _run(folder, "shards", "--shard", f"{number}/2")
    packed = _run(folder, "packed", "--pack", "tar")
    return (lines / "journal-1-of-2.jsonl").read_bytes(), (packed / "journal-1-of-1.jsonl").read_bytes()


def _read_shard(path: Path) -> object:
    """What the other shard, one that the first hands its images to, `lrp status`, a table and a report read of it."""
    from lrpcli.records.description import EXPLAIN_FILES, read_description
    from lrpcli.records.explained import Explained
    from lrpcli.records.handed import Handed
    from lrpcli.records.index import Index
    from lrpcli.records.resume import Resume
    from lrpcli.report.read import find_runs, merged

    output = path.parent / "shards"
    shutil.copyfile(path, output / ".lrp" / "journal-1-of-2.jsonl")
    description = read_description(output, EXPLAIN_FILES)
    assert description is not None
    run = description.fingerprint
    with closing(Index(output, EXPLAIN_FILES, run)) as index:
        handed = Handed(index.select(NAMES), (output / ".lrp" / "journal-2-of-2.jsonl").stat().st_size)
    for given in (None, handed):
        with Resume(output, EXPLAIN_FILES, Explained, run, "2-of-2", handed=given) as resume:
            _look(resume, path.parent / "photos")
    return command("status", output), command("table", output), merged(find_runs(output, ()))


def _look(resume: object, photos: Path) -> None:
    from lrpcli.records.identity import read_content
    from lrpcli.records.resume import CLASHED, CRASHED, ENDED, UNSURE, Resume

    assert isinstance(resume, Resume)
    for name in NAMES:
        source = str(photos / name)
        need = resume.look(source, name)
        if need == UNSURE:
            need = resume.settle(source, name, read_content(source))
        if need in (ENDED, CRASHED, CLASHED):
            resume.record(source, name, need).as_shown()


def _packed(folder: Path) -> tuple[bytes, bytes]:
    packed = _run(folder, "packed", "--pack", "tar")
    plain = _run(folder, "plain")
    return (packed / "journal-1-of-1.jsonl").read_bytes(), (plain / "journal-1-of-1.jsonl").read_bytes()


def _read_packed(path: Path) -> object:
    """Files are taken out of tars by what the journal says of them."""
    output, unpacked = path.parent / "packed", path.parent / "unpacked"
    shutil.copyfile(path, output / ".lrp" / "journal-1-of-1.jsonl")
    shutil.rmtree(unpacked, ignore_errors=True)
    return command("status", output), command("unpack", output, unpacked)


def _comparisons(folder: Path) -> tuple[bytes, bytes]:
    from tests.resilience.runs import TINY_OPTIONS

    for name, configs in (("compared", ("epsilon", "beta-1")), ("second", ("epsilon", "composite"))):
        chosen = [word for config in configs for word in ("--config", config)]
        command("compare", *TINY_OPTIONS, *chosen, "--timeout", 0, "-j", 1, _photos(folder), "-o", folder / name)
    first, second = (folder / name / ".lrp" / "compare-1-of-1.jsonl" for name in ("compared", "second"))
    return first.read_bytes(), second.read_bytes()


def _read_comparison(path: Path) -> object:
    from lrpcli.compare.records import Compared
    from lrpcli.records.description import COMPARE_FILES, read_description
    from lrpcli.records.resume import Resume

    output = path.parent / "compared"
    shutil.copyfile(path, output / ".lrp" / "compare-1-of-1.jsonl")
    description = read_description(output, COMPARE_FILES)
    assert description is not None
    with Resume(output, COMPARE_FILES, Compared, description.fingerprint, "1-of-1") as resume:
        _look(resume, path.parent / "photos")
    return command("status", output)


TARGETS = {
    "description": Target(".json", _descriptions, _read_description),
    "shard": Target(".jsonl", _shards, _read_shard),
    "packed": Target(".jsonl", _packed, _read_packed),
    "comparison": Target(".jsonl", _comparisons, _read_comparison),
}
