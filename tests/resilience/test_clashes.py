"""Which image a result belongs to: data sets that move, pictures of one name, and what --force replaces."""

import contextlib
import json
import os
import shutil

import pytest

from tests.photos import folder_of_photos, photo
from tests.resilience.runs import TINY_OPTIONS, explain, journal, lrp, process, rows, tree
from tests.resilience.test_evaluations import evaluate, results
from tests.resilience.test_resume import statuses

TIME = (1_500_000_000, 1_500_000_000)


def picture(path, seed, size=(48, 40)):
    """A BMP, whose size in bytes says nothing of what is in it, with a time that says nothing either."""
    photo(path, seed, size)
    os.utime(path, TIME)
    return path


def images(result):
    return [row for row in rows(result) if row["type"] == "image"]


def require_clash(result, path, other):
    *found, summary = rows(result)
    assert result.returncode == 1 and [row["status"] for row in found] == ["failed"]
    error = found[0]["error"]
    assert error["kind"] == "clash" and repr(str(path)) in error["message"] and repr(str(other)) in error["message"]
    assert summary["errors"] == {"clash": 1} and b"clash" in result.stderr


@pytest.mark.parametrize("size", [(48, 40), (47, 40)])
def test_a_finished_result_of_another_image_is_left_alone_run_after_run(tmp_path, size):
    """Also where name, size and time of change are the same."""
    left, out = picture(tmp_path / "left" / "1.bmp", 1), tmp_path / "out"
    right = picture(tmp_path / "right" / "1.bmp", 2, size)
    assert explain(left, out).returncode == 0
    before = tree(out)
    for _ in range(2):
        require_clash(explain(right, out, "--json"), right, left)
    assert tree(out) == before
    assert statuses(explain(left, out, "--json")) == {"1.bmp": "skipped"}
    left.unlink()  # its result is still its own
    require_clash(explain(right, out, "--json"), right, left)
    counted = json.loads(lrp("status", out, "--json").stdout)
    assert (counted["images"], counted["done"], counted["errors"], counted["missing"]) == (1, 0, {"clash": 1}, 0)
    assert statuses(explain(right, out, "--json", "--force")) == {"1.bmp": "ok"}
    assert tree(out) != before and statuses(explain(right, out, "--json")) == {"1.bmp": "skipped"}
    left = picture(tmp_path / "left" / "1.bmp", 1)
    require_clash(explain(left, out, "--json"), left, right)


def test_a_clash_does_not_hold_up_the_others(tmp_path):
    one, other, out = tmp_path / "one", tmp_path / "other", tmp_path / "out"
    for name, seed in (("a.bmp", 1), ("b.bmp", 2), ("c.bmp", 3)):
        picture(one / name, seed)
        picture(other / name, seed + (name == "b.bmp"))
    picture(other / "d.bmp", 9)
    explain(one, out)
    result = explain(other, out, "--json")
    assert statuses(result) == {"a.bmp": "skipped", "b.bmp": "failed", "c.bmp": "skipped", "d.bmp": "ok"}
    assert result.returncode == 1


def test_a_data_set_that_moved_or_was_touched_is_not_done_again(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 5), tmp_path / "out"
    explain(source, out)
    before, lines = tree(out), len(journal(out))
    source.rename(tmp_path / "moved")
    os.utime(tmp_path / "moved" / "0.png", TIME)
    shutil.copy(tmp_path / "moved" / "2.png", tmp_path / "moved" / "2.tmp")  # with another time and inode
    (tmp_path / "moved" / "2.tmp").rename(tmp_path / "moved" / "2.png")
    result = explain(tmp_path / "moved", out, "--json")
    assert result.returncode == 0 and [row["status"] for row in images(result)] == ["skipped"] * 5
    assert images(result)[0]["input"] == str(tmp_path / "moved" / "0.png") and tree(out) == before
    written = journal(out)[lines:]
    assert [line["type"] for line in written] == ["run", *["done"] * 5, *["skip"] * 5]
    assert {line["path"] for line in written if line["type"] == "done"} == {row["input"] for row in images(result)}
    # What is known now needs no reading any more: these files have other content, and claim to be as they were.
    states = {path: path.stat() for path in (tmp_path / "moved").rglob("*.png")}
    for path, state in states.items():
        path.write_bytes(b"\0" * state.st_size)
        os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
    assert {row["status"] for row in images(explain(tmp_path / "moved", out, "--json"))} == {"skipped"}
    counted = json.loads(lrp("status", out, "--json").stdout)
    assert (counted["done"], counted["missing"]) == (5, 0)


def test_a_changed_file_at_the_same_path_is_done_again(tmp_path):
    path, out = picture(tmp_path / "1.bmp", 1), tmp_path / "out"
    explain(path, out)
    first = tree(out)
    photo(path, 2)
    assert statuses(explain(path, out, "--json")) == {"1.bmp": "ok"} and tree(out) != first
    with contextlib.chdir(tmp_path):
        assert statuses(explain("./1.bmp", "out", "--json")) == {"1.bmp": "skipped"}


def test_done_lines_hold_path_size_time_and_content(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 1), tmp_path / "out"
    with contextlib.chdir(tmp_path):
        explain("in", "out")
    (line,) = [line for line in journal(out) if line["type"] == "done"]
    state = (source / "0.png").stat()
    assert (line["input"], line["path"]) == ("in/0.png", str(source / "0.png"))
    assert (line["size"], line["mtime_ns"], len(line["content"])) == (state.st_size, state.st_mtime_ns, 32)


def test_lines_of_early_versions_go_on(tmp_path):
    """They hold no content and the path as it was given: the same path, size and time count."""
    source, out = folder_of_photos(tmp_path / "in", 2), tmp_path / "out"
    with contextlib.chdir(tmp_path):
        explain("in", "out")
    early = [{key: value for key, value in line.items() if key not in ("path", "content")} for line in journal(out)]
    (out / ".lrp" / "journal-1-of-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in early))
    with contextlib.chdir(tmp_path):
        assert set(statuses(explain("in", "out", "--json")).values()) == {"skipped"}
    source.rename(tmp_path / "moved")  # now nobody can say whether they are the same
    assert {row["error"]["kind"] for row in images(explain(tmp_path / "moved", out, "--json"))} == {"clash"}


def test_what_is_explained_of_an_image_may_depend_on_its_folder(tmp_path):
    options = (*TINY_OPTIONS, "--target", "from-folder", "--labels", tmp_path / "labels")
    (tmp_path / "labels").write_text("".join(f"class {number}\n" for number in range(10)))
    path, out = photo(tmp_path / "class 3" / "1.png"), tmp_path / "out"
    result = explain(path, out, "--json", options=options)
    assert images(result)[0]["target"] == 3, result.stderr
    other = tmp_path / "class 4" / "1.png"
    other.parent.mkdir()
    path.rename(other)
    again = explain(other, out, "--json", options=options)
    assert (images(again)[0]["status"], images(again)[0]["target"]) == ("ok", 4)
    (tmp_path / "inner").mkdir()
    other.parent.rename(tmp_path / "inner" / "class 4")
    moved = explain(tmp_path / "inner" / "class 4" / "1.png", out, "--json", options=options)
    assert images(moved)[0]["status"] == "skipped"


def test_a_result_whose_files_are_gone_is_in_nobodys_way(tmp_path):
    left, right, out = picture(tmp_path / "l" / "1.bmp", 1), picture(tmp_path / "r" / "1.bmp", 2), tmp_path / "out"
    explain(left, out)
    (out / "1.bmp.npy").unlink()
    assert statuses(explain(right, out, "--json")) == {"1.bmp": "ok"}


def test_results_of_other_settings_are_not_overwritten_by_another_image_either(tmp_path):
    left, right, out = picture(tmp_path / "l" / "1.bmp", 1), picture(tmp_path / "r" / "1.bmp", 2), tmp_path / "out"
    explain(left, out)
    explain(picture(tmp_path / "else.bmp", 3), out, "--lrn", "identity", "--force")
    require_clash(explain(right, out, "--lrn", "identity", "--json"), right, left)
    assert statuses(explain(left, out, "--lrn", "identity", "--json")) == {"1.bmp": "ok"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [("explain", "-", "out"), ("explain", "--files-from", "list", "out"),
     ("evaluate", "-", "-o", "out", "--steps", "2")],
)  # fmt: skip
def test_standard_input_is_known_by_what_comes_in(tmp_path, command):
    (tmp_path / "list").write_text("/dev/stdin\n")
    contents = [photo(tmp_path / "in.png", seed).read_bytes() for seed in (2, 2, 3)]
    found = []
    for content in contents:
        result = process(command[0], *TINY_OPTIONS, *command[1:], "--json", cwd=tmp_path, input=content)
        found += [row["error"]["kind"] if "error" in row else row["status"] for row in rows(result)[:-1]]
    assert found == ["ok", "skipped", "clash"]


def test_an_evaluation_knows_its_images_by_content_too(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    first = evaluate(source, "-o", out, "--json")
    before = results(out)
    source.rename(tmp_path / "moved")
    for _ in range(2):
        again = evaluate(tmp_path / "moved", "-o", out, "--json")
        assert again.returncode == 0 and [row["status"] for row in images(again)] == ["skipped"] * 3
        assert results(out) == before
        counted = json.loads(lrp("status", out, "--json").stdout)
        assert (counted["done"], counted["missing"]) == (3, 0)
    for old, new in zip(images(first), images(again), strict=True):
        assert {**old, "input": None, "status": None} == {**new, "input": None, "status": None}
    written = journal(out, "evaluate-1-of-1.jsonl")
    assert len([line for line in written if line["type"] == "done"]) == 6
    photo(tmp_path / "moved" / "0.png", 99)
    changed = evaluate(tmp_path / "moved", "-o", out, "--json")
    assert sorted(row["status"] for row in images(changed)) == ["ok", "skipped", "skipped"]


def test_boxes_that_were_drawn_for_another_name_do_not_count(tmp_path):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    (tmp_path / "boxes.csv").write_text("file,x1,y1,x2,y2\na.png,0,0,20,20\nb.png,20,20,40,40\n")
    boxes = ("--boxes", tmp_path / "boxes.csv", "-o", out, "--json")
    first = images(evaluate(path, *boxes))[0]
    path.rename(tmp_path / "b.png")
    second = images(evaluate(tmp_path / "b.png", *boxes))[0]
    assert second["status"] == "ok" and second["methods"] != first["methods"]
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy", "out"))
    assert images(evaluate(tmp_path / "copy" / "b.png", *boxes))[0]["status"] == "skipped"


def test_another_image_under_the_name_of_a_measured_one_is_a_clash(tmp_path):
    """An evaluation calls images as they were given: from another folder, the same name is another image."""
    left, right = picture(tmp_path / "left" / "1.bmp", 1), picture(tmp_path / "right" / "1.bmp", 2)
    out = tmp_path / "out"
    with contextlib.chdir(left.parent):
        assert evaluate("1.bmp", "-o", out).returncode == 0
    before = results(out)
    with contextlib.chdir(right.parent):
        require_clash(evaluate("1.bmp", "-o", out, "--json"), "1.bmp", left)
        assert results(out) == before
        assert evaluate("1.bmp", "-o", out, "--force").returncode == 0
    assert results(out) != before


def test_a_clash_has_ended_for_the_shard_that_ends_last(tmp_path):
    out = tmp_path / "out"
    for folder, seeds in (("left", (1, 2)), ("right", (1, 9))):
        for seed, name in zip(seeds, ("a.bmp", "b.bmp"), strict=True):
            picture(tmp_path / folder / name, seed)
    with contextlib.chdir(tmp_path / "left"):
        evaluate(".", "-o", out)
    with contextlib.chdir(tmp_path / "right"):
        assert evaluate(".", "-o", out, "--shard", "2/2").returncode == 1
        last = evaluate(".", "-o", out, "--shard", "1/2")
    assert last.returncode == 0 and results(out)["images"] == 1, last.stderr
