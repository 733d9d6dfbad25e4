"""lrp table: the records as CSV and Parquet, for pandas and for spreadsheets."""

import base64
import csv
import io
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from lrpcli.cli import records_table
from lrpcli.records.table import Records, csv_lines, entries
from lrpcli.records.table import columns as table_columns
from tests.photos import folder_of_photos, photo
from tests.records.results import begin, describe, description, explained, failed, start, write
from tests.resilience.runs import TINY_OPTIONS, environment, journal, lrp, process

HEADINGS = [
    "input", "name", "status", "error", "message", "target", "label", "score", "start", "total", "kept", "positive",
    "negative", "min", "max", "exploded", "scale", "seconds", "overlay", "heatmap", "map", "layers",
    "layer-table",
]  # fmt: skip


def table(output, *options, env=None):
    """The rows of the printed table, as the standard library reads them."""
    done = lrp("table", output, *options, env=env)
    assert done.exit_code == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout_bytes.decode("utf-8"), newline="")))


def test_a_row_says_what_the_record_says(tmp_path):
    describe(tmp_path)
    write(tmp_path, begin(2), start("a.jpg"), explained("a.jpg"), failed("b.jpg"))
    first, second = table(tmp_path)
    assert list(first) == HEADINGS + [f"top{n}_{what}" for n in range(1, 6) for what in ("target", "label", "score")]
    assert {key: first[key] for key in HEADINGS} == {
        "input": "in/a.jpg", "name": "a.jpg", "status": "ok", "error": "", "message": "", "target": "281",
        "label": "tabby", "score": "0.75", "start": "2.5", "total": "1.25", "kept": "0.5", "positive": "1.75",
        "negative": "-0.5", "min": "-0.5", "max": "0.75", "exploded": "false", "scale": "0.125", "seconds": "0.25",
        "overlay": f"{tmp_path}/a.jpg.281.png", "heatmap": "", "map": f"{tmp_path}/a.jpg.281.npy", "layers": "",
        "layer-table": "",
    }  # fmt: skip
    assert [first[f"top{n}_label"] for n in (1, 2, 3)] == ["tabby", "Egyptian cat", ""]
    assert (second["status"], second["error"], second["message"]) == ("failed", "decode", "It cannot be decoded.")
    assert second["target"] == second["score"] == second["overlay"] == second["top1_label"] == ""


def test_the_table_of_a_real_run_is_what_json_said(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 3)
    (folder / "zz.png").write_bytes(b"no image")
    options = ("--target", "top2", "--json", "--csv", tmp_path / "t" / "table.csv")
    done = lrp("explain", *TINY_OPTIONS, folder, tmp_path / "out", *options)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    found = table(tmp_path / "out")
    per_class = [(row, part) for row in said[:-2] for part in row["explanations"]]
    assert [row["input"] for row in found] == [*(row["input"] for row, _ in per_class), str(folder / "zz.png")]
    for row, (image, part) in zip(found, per_class, strict=False):
        assert (row["target"], row["label"], row["score"]) == (str(part["target"]), part["label"], str(part["score"]))
        for key in ("start", "total", "positive", "negative", "kept"):
            assert float(row[key]) == part["relevance"][key]
        assert row["overlay"] == part["outputs"]["overlay"] and row["map"] == part["outputs"]["map"]
        assert json.loads(row["seconds"]) == image["seconds"]
    assert found[-1]["error"] == "decode" and found[-1]["message"] == said[-2]["error"]["message"]
    assert (tmp_path / "t" / "table.csv").read_bytes() == lrp("table", tmp_path / "out").stdout_bytes
    assert list((tmp_path / "t").iterdir()) == [tmp_path / "t" / "table.csv"]


def test_positive_and_negative_are_the_sums_of_the_map(tmp_path):
    import numpy as np

    photo(tmp_path / "a.png")
    lrp("explain", *TINY_OPTIONS, tmp_path / "a.png", tmp_path / "out")
    (row,) = table(tmp_path / "out")
    relevance = np.load(row["map"]).astype(np.float64)
    assert float(row["positive"]) == pytest.approx(relevance[relevance > 0].sum(), rel=1e-9)
    assert float(row["negative"]) == pytest.approx(relevance[relevance < 0].sum(), rel=1e-9)
    assert float(row["positive"]) + float(row["negative"]) == pytest.approx(float(row["total"]), rel=1e-4)


def test_records_of_early_versions_have_empty_cells(tmp_path):
    (tmp_path / "out").mkdir()
    record = explained("a.jpg").as_json()
    del record["relevance"]["positive"], record["relevance"]["negative"]
    write(tmp_path / "out", {**record, "type": "done"})
    (row,) = table(tmp_path / "out")
    assert (row["positive"], row["negative"], row["total"]) == ("", "", "1.25")


def test_images_stay_in_the_order_in_which_they_were_first_worked_on(tmp_path):
    """Also one that failed at first, and was tried again by a later run."""
    describe(tmp_path)
    write(tmp_path, begin(3), start("c"), start("a"), explained("c"), failed("a"), start("b"), explained("b"))
    write(tmp_path, begin(3), {"type": "skip", "name": "c"}, start("a"), explained("a"), {"type": "skip", "name": "b"})
    write(tmp_path, begin(4, 2, 2, 1), start("d"), explained("d"), journal="journal-2-of-2.jsonl")
    assert [(row["name"], row["status"]) for row in table(tmp_path)] == [(name, "ok") for name in "cabd"]


def test_failures_alone(tmp_path):
    describe(tmp_path)
    write(tmp_path, begin(3), explained("a"), failed("b"), failed("c", "timeout"), failed("d", "clash"))
    assert [row["error"] for row in table(tmp_path, "--failed")] == ["decode", "timeout", "clash"]


def test_what_is_not_finished_or_was_made_otherwise_is_left_out_and_said(tmp_path):
    describe(tmp_path)
    write(tmp_path, explained("old"), failed("older"), run="of other settings")
    write(tmp_path, begin(2), explained("a"), start("b"), start("c"), {"type": "drop", "name": "c"})
    write(tmp_path, {"type": "done", "name": "d", "status": "ok", "input": "d", "target": "no number"})
    done = lrp("table", tmp_path)
    assert [line.split(",")[1] for line in done.stdout.splitlines()] == ["name", "a"]
    assert (
        "1 image made with other settings than the last run's, 3 images not finished, 1 image of a line" in done.stderr
    )
    assert lrp("table", tmp_path, "-q").stderr == ""


def test_a_result_that_is_being_replaced_is_not_in_the_table(tmp_path):
    """Its files may be those of before, of now, or both."""
    describe(tmp_path)
    write(tmp_path, explained("a"), begin(1), start("a"))
    assert table(tmp_path) == []


HOSTILE = ["=cmd|' -C calc'!A0.jpg", "+1.jpg", "-1.jpg", "@sum.jpg", "\tx.jpg", "\r=1.jpg", 'a"b,c;d.jpg',
           "two\nlines.jpg"]  # fmt: skip


def test_nothing_is_a_formula_and_every_path_leads_to_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    describe(tmp_path / "=out")
    for name in HOSTILE:
        (tmp_path / name).touch()
    write(tmp_path / "=out", *(explained(name, input=name, label=f"={name}") for name in HOSTILE))
    found = table("=out")
    assert len(found) == len(HOSTILE)
    for name, row in zip(HOSTILE, found, strict=True):
        assert Path(row["input"]).samefile(name)
        assert os.path.normpath(row["map"]) == f"=out/{name}.281.npy"
        assert row["label"].startswith("'=")
        assert not [key for key, text in row.items() if text[:1] in ("=", "+", "@", "\t", "\r", "\n")]
        assert not [key for key, text in row.items() if text[:1] == "-" and key != "min" and key != "negative"]


def test_paths_that_are_not_utf_8_are_as_in_json(tmp_path):
    describe(tmp_path)
    name = os.fsdecode(b"caf\xe9.jpg")
    write(tmp_path, explained(name))
    (row,) = table(tmp_path)
    assert base64.b64decode(json.loads(row["name"])["bytes"]) == b"caf\xe9.jpg"
    assert base64.b64decode(json.loads(row["map"])["bytes"]) == os.fsencode(tmp_path) + b"/caf\xe9.jpg.281.npy"


def test_labels_and_messages_have_no_control_characters(tmp_path):
    describe(tmp_path)
    write(tmp_path, explained("a", label="\x1b[2Jcat\n"), failed("b", message="\x9b31m\nError: forged"))
    found = table(tmp_path)
    assert found[0]["label"] == "\\x1b[2Jcat\\n" and found[1]["message"] == "\\x9b31m\\nError: forged"


def test_lines_end_as_other_tools_expect(tmp_path):
    describe(tmp_path)
    write(tmp_path, explained("a"))
    printed = lrp("table", tmp_path).stdout_bytes
    assert printed.count(b"\n") == 2 and b"\r" not in printed and not printed.startswith(b"\xef\xbb\xbf")


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    describe(tmp_path / "out")
    write(tmp_path / "out", explained("a"), explained("b"))
    target = tmp_path / "t.csv"
    assert lrp("table", tmp_path / "out", "-o", target).exit_code == 0
    whole = target.read_bytes()
    assert whole == lrp("table", tmp_path / "out").stdout_bytes

    def broken(shown, rows):
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lrpcli.records.table.csv_lines", broken)
    done = lrp("table", tmp_path / "out", "-o", target)
    assert done.exit_code == 3 and "No space left on device" in done.stderr and "t.csv" in done.stderr
    assert target.read_bytes() == whole and sorted(path.name for path in tmp_path.iterdir()) == ["out", "t.csv"]


def test_a_device_or_a_folder_is_not_replaced_by_a_table(tmp_path):
    describe(tmp_path)
    write(tmp_path, explained("a"))
    os.mkfifo(tmp_path / "pipe")
    for target, what in ((tmp_path / "pipe", "a named pipe"), (tmp_path, "a folder"), ("/dev/null", "a device")):
        done = lrp("table", tmp_path, "-o", target)
        assert done.exit_code == 2 and f"{what}. Name a file" in done.stderr
    assert lrp("table", tmp_path, "-o", "-").stdout == lrp("table", tmp_path).stdout


def test_the_folder_of_another_command_is_no_file_for_the_table(tmp_path):
    """LRP_OUT is the output folder of a run, for scripts that give it by a variable."""
    describe(tmp_path / "out")
    write(tmp_path / "out", explained("a"))
    assert len(table(tmp_path / "out", env={"LRP_OUT": str(tmp_path / "folder")})) == 1
    assert not (tmp_path / "folder").exists()


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    describe(tmp_path / "out")
    write(tmp_path / "out", explained("a"))
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert lrp("table", tmp_path / "out", "-o", tmp_path / "link.csv").exit_code == 0
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").read_text().startswith("input,")


@pytest.mark.parametrize("what", ["nothing", "evaluation", "damaged description"])
def test_a_folder_without_explanations_is_a_sentence(tmp_path, what):
    (tmp_path / ".lrp").mkdir()
    if what == "evaluation":
        write(tmp_path, begin(1), journal="evaluate-1-of-1.jsonl")
    if what == "damaged description":
        write(tmp_path, begin(1))
        (tmp_path / ".lrp" / "run.json").write_text("{")
    done = lrp("table", tmp_path)
    assert done.exit_code == 2 and done.stdout == ""
    assert ("is damaged" if what == "damaged description" else "holds no journal of lrp explain") in done.stderr


def test_the_csv_option_is_checked_before_anything_is_computed(tmp_path):
    photo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    for value, text in (("-", "no file"), (tmp_path, "no file"), (tmp_path / "pipe", "no file"), ("", "is empty")):
        done = lrp("explain", *TINY_OPTIONS, tmp_path / "a.png", tmp_path / "out", "--csv", value)
        assert done.exit_code == 2 and text in done.stderr and not (tmp_path / "out").exists()


def test_a_further_kind_of_file_gets_a_column_behind_the_others(tmp_path):
    known = [column.name for column in table_columns(description())]
    odd = description(output={"save": ["overlay", "figure", "=1+1", "input", 7]})
    assert [column.name for column in table_columns(odd)] == [*known, "figure"]


def test_neither_torch_nor_pictures_are_loaded(tmp_path):
    describe(tmp_path)
    write(tmp_path, explained("a"))
    heavy = "torch torchvision matplotlib PIL pyarrow"
    code = (
        "import sys\nfrom lrpcli.cli import main\n"
        f"try: main(['table', {str(tmp_path)!r}], prog_name='lrp')\n"
        f"except SystemExit: sys.exit(' '.join(m for m in {heavy.split()} if m in sys.modules) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment())
    assert done.returncode == 0 and done.stdout.startswith(b"input,"), done.stderr


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """What does is what the index of the journals takes for each line."""
    describe(tmp_path)
    peaks = []
    for count in (100, 1000):
        write(tmp_path, *(explained(f"{number}.jpg") for number in range(count)))
        tracemalloc.start()
        records = Records(tmp_path)
        assert sum(1 for _ in csv_lines(table_columns(None), entries(records))) == 1 + count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 900 < 300  # bytes, where a row has 500 and a record thousands


def test_a_reader_that_goes_away_ends_the_command_by_its_signal(tmp_path):
    describe(tmp_path)
    write(tmp_path, *(explained(f"{number}.jpg") for number in range(2000)))
    done = subprocess.run(
        ["/bin/bash", "-c", f"{sys.executable} -m lrpcli table {tmp_path} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, env=environment(), check=False, timeout=300,
    )  # fmt: skip
    assert done.stdout.splitlines()[1] == b"141" and done.stderr == b""


def test_without_pyarrow_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    describe(tmp_path)
    write(tmp_path, explained("a"))
    for options in (["--format", "parquet"], ["-o", tmp_path / "t.parquet"]):
        done = lrp("table", tmp_path, *options)
        assert done.exit_code == 2 and "pip install 'lrpcli[pack]'" in done.stderr
        assert not (tmp_path / "t.parquet").exists()
    photo(tmp_path / "in.png")
    line = ("explain", *TINY_OPTIONS, tmp_path / "in.png", tmp_path / "new", "--csv", tmp_path / "t.parquet")
    assert lrp(*line).exit_code == 2 and not (tmp_path / "new").exists()


def test_parquet_has_the_same_rows_with_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    describe(tmp_path)
    odd = os.fsdecode(b"=caf\xe9.jpg")
    write(tmp_path, begin(3), explained("=a.jpg", (281, 282)), failed("b.jpg"), explained(odd, label="=1"))
    assert lrp("table", tmp_path, "-o", tmp_path / "t.parquet").exit_code == 0
    found = parquet.read_table(tmp_path / "t.parquet")
    printed = table(tmp_path)
    assert found.column_names == list(printed[0]) and len(found) == len(printed) == 4
    for exact, text in zip(found.to_pylist(), printed, strict=True):
        for name, value in exact.items():
            if value is None:
                assert text[name] == ""
            elif not isinstance(value, str):
                assert type(value)(json.loads(text[name])) == value
    assert found["label"].to_pylist() == ["tabby", "tabby", None, "=1"]
    assert found["name"].to_pylist()[0] == "=a.jpg" and printed[0]["name"] == "./=a.jpg"
    packages = Path(sys.modules["pyarrow"].__file__).parents[1]
    piped = process("table", tmp_path, "--format", "parquet", env=environment(path=[packages]))
    assert piped.returncode == 0 and piped.stdout == (tmp_path / "t.parquet").read_bytes()


def test_a_number_that_parquet_has_no_room_for_is_a_sentence(tmp_path):
    pytest.importorskip("pyarrow.parquet")
    describe(tmp_path)
    write(tmp_path, explained("a", (10**30,)))
    assert table(tmp_path)[0]["target"] == str(10**30)
    done = lrp("table", tmp_path, "-o", tmp_path / "t.parquet")
    assert done.exit_code == 3 and "--format csv" in done.stderr and not (tmp_path / "t.parquet").exists()


def test_parquet_is_not_written_to_a_terminal(tmp_path, monkeypatch):
    describe(tmp_path)
    write(tmp_path, explained("a"))
    monkeypatch.setattr(records_table, "on_terminal", lambda: True)
    done = lrp("table", tmp_path, "--format", "parquet")
    assert done.exit_code == 2 and "nothing for a terminal" in done.stderr


def test_a_terminal_shows_each_row_as_a_harmless_line(tmp_path, monkeypatch):
    describe(tmp_path)
    write(tmp_path, explained("\x1b[2J\nforged"))
    monkeypatch.setattr(records_table, "on_terminal", lambda: True)
    lines = lrp("table", tmp_path).stdout.splitlines()
    assert len(lines) == 2 and "\x1b" not in lines[1]


def test_the_journal_of_a_run_has_no_more_than_before(tmp_path):
    """Reading writes nothing."""
    describe(tmp_path)
    write(tmp_path, explained("a"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / ".lrp").iterdir()}
    lrp("table", tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / ".lrp").iterdir()} == before and journal(tmp_path)


@pytest.mark.parametrize("name", ["scores.xlsx", "scores.JSON"])
def test_a_table_does_not_go_into_a_file_called_something_else(tmp_path, name):
    describe(tmp_path)
    write(tmp_path, begin(1), start("a.jpg"), explained("a.jpg"))
    done = lrp("table", tmp_path, "-o", tmp_path / name)
    assert done.exit_code == 2 and "Call it *.csv" in done.stderr and not (tmp_path / name).exists()
    given = lrp("table", tmp_path, "-o", tmp_path / name, "--format", "csv")
    assert given.exit_code == 0 and (tmp_path / name).read_bytes().startswith(b"input,name")
