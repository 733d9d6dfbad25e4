"""Whether everything is done is found out without a net; whatever is unclear is left to it."""

import shutil
from contextlib import ExitStack
from dataclasses import replace
from threading import Event

import pytest

from lrpcli.images.find import Source
from lrpcli.pipeline.finished import NetFacts
from lrpcli.pipeline.settings import ExplainSettings, FlowSettings, ModelSettings, OutputSettings, RunSettings
from lrpcli.pipeline.shard import WHOLE
from lrpcli.records.description import EXPLAIN_FILES
from lrpcli.records.explained import Explained
from lrpcli.records.identity import FileState
from lrpcli.scale import Assignment, EngineSettings, Job
from lrpcli.scale.finished import Request, find_finished, note_request, request_key
from lrpcli.scale.row_worker import LoadedRun
from tests.photos import TINY, photo
from tests.records.results import begin, describe, description, explained, write

FACTS = NetFacts(1000)
LOADED = LoadedRun(EXPLAIN_FILES, Explained, description(), 16, FACTS)


@pytest.fixture
def model(tmp_path):
    """A model file of one's own, which the tests only look at."""
    return str(shutil.copy(TINY, tmp_path / "net.caffemodel"))


def assignment_of(tmp_path, model, count=3, **settings):
    images = [photo(tmp_path / "in" / f"{number}.png", number) for number in range(count)]
    sources = [Source(str(image), image.name) for image in images]
    run = RunSettings(tmp_path / "out", ModelSettings(model), **settings)
    read = "lrpcli.pipeline.finished:read_finished"
    engine = EngineSettings("processes")
    return Assignment(Job("", (run,)), read, sources, WHOLE, run.folder, EXPLAIN_FILES, FlowSettings(), engine)


def finish(assignment, **changes):
    """What a run leaves that has done everything."""
    describe(assignment.folder)
    write(assignment.folder, begin(len(assignment.sources)))
    for source in assignment.sources:
        record = replace(explained(source.name), input=source.path, **changes)
        for outputs in record.outputs:
            for path in outputs.paths.values():
                (assignment.folder / path).write_bytes(b"a result")
        fields = {**record.as_json(), "type": "done", **FileState.of(source.path).as_json()}
        write(assignment.folder, fields)
    note_request(assignment, LOADED, ())


def found(assignment):
    """The records if everything is done, else None."""
    with ExitStack() as held:
        execution = find_finished(assignment, held)
        return None if execution is None else list(execution.records(Event()))


def test_everything_done_is_known_and_the_records_are_those_of_the_journal(tmp_path, model):
    assignment = assignment_of(tmp_path, model)
    finish(assignment)
    records = found(assignment)
    assert [record.name for record in records] == ["0.png", "1.png", "2.png"]
    assert {record.status for record in records} == {"skipped"}
    assert records[0].outputs[0].paths["map"] == str(tmp_path / "out" / "0.png.281.npy")


@pytest.mark.parametrize(
    "doubt",
    [
        "a file is gone", "an image changed", "an image is new", "force", "another config", "another model",
        "another net in the file", "another fingerprint", "a damaged line", "no request", "a damaged request",
        "a request that is a link", "a request that is a folder", "another kind of file",
    ],
)  # fmt: skip
def test_any_doubt_is_left_to_the_net(tmp_path, model, doubt):
    assignment = assignment_of(tmp_path, model)
    finish(assignment)
    request = assignment.folder / ".lrp" / "journal.request.json"
    journal = assignment.folder / ".lrp" / "journal-1-of-1.jsonl"
    if doubt == "a file is gone":
        (assignment.folder / "1.png.281.npy").unlink()
    elif doubt == "an image changed":
        photo(tmp_path / "in" / "1.png", 99, (60, 50))
    elif doubt == "an image is new":
        assignment = assignment_of(tmp_path, model, 4)
    elif doubt == "force":
        assignment = replace(assignment, flow=FlowSettings(force=True))
    elif doubt == "another config":
        assignment = assignment_of(tmp_path, model, explain=ExplainSettings("epsilon"))
    elif doubt == "another kind of file":
        assignment = assignment_of(tmp_path, model, output=OutputSettings(save="map"))
    elif doubt == "another model":
        assignment = assignment_of(tmp_path, "caffenet-small")
    elif doubt == "another net in the file":
        with open(model, "r+b") as file:  # noqa: PTH123
            file.seek(-1, 2)
            file.write(b"\x7f")
    elif doubt == "another fingerprint":
        description(more=1).write(assignment.folder, EXPLAIN_FILES)
    elif doubt == "a damaged line":
        journal.write_bytes(journal.read_bytes().replace(b'"target": 281', b'"target": 1281', 1))
    elif doubt == "no request":
        request.unlink()
    elif doubt == "a damaged request":
        request.write_text(request.read_text().replace('"key"', '"kex"'))
    elif doubt == "a request that is a folder":
        request.unlink()
        request.mkdir()
        note_request(assignment, LOADED, ())
    else:
        request.rename(tmp_path / "elsewhere")
        request.symlink_to(tmp_path / "elsewhere")
    assert found(assignment) is None


def test_maps_of_two_classes_are_no_maps_of_one(tmp_path, model):
    assignment = assignment_of(tmp_path, model)
    finish(assignment, classes=explained("0.png", (281, 285)).classes)
    assert found(assignment) is None


@pytest.mark.parametrize("name", ["net.onnx", "net.py:make", "package.net:make", "unknown-net"])
def test_models_that_more_belongs_to_than_a_file_are_always_loaded(tmp_path, name):
    for file in ("net.onnx", "net.py"):
        (tmp_path / file).write_text("")
    path = str(tmp_path / name) if name.startswith("net.") else name
    assert request_key(assignment_of(tmp_path, path)) is None


def test_files_that_settings_name_are_read_and_folders_are_doubt(tmp_path, model):
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n")

    def key():
        settings = ModelSettings(model, labels=str(labels))
        assignment = assignment_of(tmp_path, model)
        run = replace(assignment.job.arguments[0], model=settings)
        return request_key(replace(assignment, job=Job("", (run,))))

    before = key()
    assert before is not None and before == key()
    labels.write_text("dog\ncat\n")
    assert key() != before
    labels.unlink()
    labels.mkdir()
    assert key() is None


def test_a_bundled_net_is_known_by_its_file(tmp_path):
    assert request_key(assignment_of(tmp_path, "cifar10")) == request_key(assignment_of(tmp_path, "cifar10"))
    assert request_key(assignment_of(tmp_path, "cifar10")) != request_key(assignment_of(tmp_path, "caffenet-small"))


def test_files_of_all_images_have_to_be_as_they_were(tmp_path, model):
    assignment = assignment_of(tmp_path, model)
    finish(assignment)
    (tmp_path / "out" / "results.json").write_text("{}")
    note_request(assignment, LOADED, ["results.json"])
    assert Request.read(assignment).results.keys() == {"results.json"} and found(assignment) is not None
    (tmp_path / "out" / "results.json").write_text("{ }")
    assert found(assignment) is None
