"""What a report holds, read as a file: records, pictures, hostile and damaged journals, other runs."""

import base64
import errno
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from lrpcli.cli import main
from lrpcli.images.find import Discovery
from lrpcli.records.map_values import stored
from lrpcli.records.store import npy_bytes
from lrpcli.report.drawing import MapLook, heatmap, mean_map, picture_style
from lrpcli.report.page import _own
from lrpcli.report.read import find_runs
from lrpcli.report.thumbnails import picture_name
from tests.photos import TINY, folder_of_photos
from tests.report.results import GRID, JOURNAL, SIZE, Results, photo, photo_colour, relevance

TINY_NET = ("--model", TINY, "--input-shape", "3,32,32", "--preprocessing", "caffe")
SMALL, NONE, MISSING, BROKEN = 2, 1, 0, 3


def lrp(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def report(output, *options):
    done = lrp("report", output, "-j", "1", "-q", *options)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{output}/index.html\n"
    return records(output)


def records(output):
    text = (Path(output) / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/octet-stream" id="records">([^<]*)</script>', text)
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def statuses(data):
    return Counter(data["statuses"][number] for number in data["image"]["s"])


def pictures(output):
    return {str(path.relative_to(output / "lrp-report")) for path in (output / "lrp-report").glob("*/*.webp")}


def colour(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.float64).mean((0, 1))


def test_the_page_holds_every_record_and_the_small_pictures_show_its_files(tmp_path):
    out = Results(tmp_path / "out", tmp_path / "photos").add_many(5, failed=2).output
    data = report(out)
    image, maps = data["image"], data["map"]
    assert image["n"] == [*(f"{n:06}.png" for n in range(5)), "failed/000.jpg", "failed/001.jpg"]
    assert statuses(data) == {"ok": 5, "failed": 2}
    assert [data["errors"][number] for number in image["e"][5:]] == ["decode", "timeout"]
    assert data["sparse"]["message"] == {"5": "Image 0 is damaged.", "6": "Image 1 is damaged."}
    assert [data["labels"][number] for number in maps["l"]] == ["cat", "dog", "bird", "ship", "cat"]
    assert maps["s"] == [1.0, 0.99, 0.98, 0.97, 0.96] and maps["pic"] == [SMALL] * 5
    assert (image["w"][0], image["h"][0]) == SIZE[::-1] and image["first"] == [0, 1, 2, 3, 4, 5, 5]
    key = data["runs"][0]["key"]
    for number in range(5):
        name = image["n"][number]
        shown = colour(out / "lrp-report" / picture_name(name, f"{key}0"))
        assert np.abs(shown - photo_colour(number)[::-1]).max() < 6
        assert np.abs(colour(out / "lrp-report" / picture_name(name, "p")) - photo_colour(number)).max() < 6
        assert image["id"][number] == picture_name(name, "p").replace("/", "").removesuffix("-p.webp")


def test_photos_are_linked_by_relative_addresses_that_lead_to_them(tmp_path):
    out = Results(tmp_path / "out", tmp_path / "photos").add_many(2, folders=["a b", "c#d"]).output
    data = report(out)
    assert data["roots"] == ["../photos/"] and data["image"]["p"] == [0, 0]
    assert data["files"] == [[["overlay", ".png"], ["map", ".npy"]]]


def test_a_second_report_makes_no_picture_again_and_a_changed_result_is_made_anew(tmp_path):
    results = Results(tmp_path / "out", tmp_path / "photos").add_many(3)
    out = results.output
    assert json.loads(lrp("report", out, "--json", "-q").stdout)["pictures"] == 6
    times = {name: (out / "lrp-report" / name).stat().st_ino for name in pictures(out)}
    assert json.loads(lrp("report", out, "--json", "-q").stdout)["pictures"] == 0
    assert {name: (out / "lrp-report" / name).stat().st_ino for name in pictures(out)} == times
    before = (out / "000001.png.png").stat()
    Image.new("RGB", SIZE[::-1], "yellow").save(out / "000001.png.png")
    os.utime(out / "000001.png.png", ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))  # as after a clock was set
    assert json.loads(lrp("report", out, "--json", "-q").stdout)["pictures"] == 1
    name = picture_name("000001.png", records(out)["runs"][0]["key"] + "0")
    assert np.abs(colour(out / "lrp-report" / name) - (255, 255, 0)).max() < 6


def test_results_stay_byte_for_byte_and_pictures_of_images_that_are_gone_are_removed(tmp_path):
    out = Results(tmp_path / "out", tmp_path / "photos").add_many(3, failed=1).output

    def state():
        kept = (path for path in out.rglob("*") if path.is_file() and "lrp-report" not in path.parts)
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in kept if path.name != "index.html"}

    before = state()
    report(out)
    assert state() == before
    stray = out / "lrp-report" / "aa" / "0123-x.webp"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"")
    other = out / "lrp-report" / "notes.txt"
    other.write_text("mine")
    report(out)
    assert not stray.exists() and other.read_text() == "mine" and len(pictures(out)) == 6


def test_maps_are_drawn_where_there_are_no_overlays(tmp_path):
    results = Results(tmp_path / "out", save=["map"])
    results.add("a.png")
    stacked = npy_bytes(np.stack([relevance(0), relevance(0), -relevance(0)]))
    results.add("b.png", files=lambda paths, number: (results.output / paths["map"]).write_bytes(stacked))
    steps = npy_bytes(stored(relevance(0), "int16"))
    results.add("c.png", files=lambda paths, number: (results.output / paths["map"]).write_bytes(steps))
    out = results.output
    data = report(out)
    assert data["map"]["pic"] == [SMALL, SMALL, SMALL]
    key = data["runs"][0]["key"]
    one, other, third = (
        np.asarray(Image.open(out / "lrp-report" / picture_name(f"{name}.png", f"{key}0")).convert("RGB"), int)
        for name in "abc"
    )
    # Row 0 of map 0 is 1 - 0.5 at its first value, red, and 0 elsewhere; three channels of which one is negative are
    # the same map.
    cell = 256 // GRID[0]
    assert one.shape == (256, 256, 3)
    assert one[cell // 2, cell // 2, 0] > one[cell // 2, cell // 2, 2] + 60
    assert np.ptp(one[128:, 128:]) < 8
    assert np.abs(one - other).max() < 8 and np.abs(one - third).max() < 8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9999999, 9999999), }", "huge"),
        (npy_bytes(np.zeros((4, 4), np.int32)), "whole numbers"),
        (npy_bytes(np.zeros((0, 4), np.float32)), "no values"),
        (npy_bytes(np.zeros((4,), np.float32)), "one axis"),
    ],
)
def test_a_map_that_cannot_be_read_leaves_a_plain_cell(tmp_path, content, reason):
    results = Results(tmp_path / "out", save=["map"])
    results.add("a.png", files=lambda paths, number: (results.output / paths["map"]).write_bytes(content))
    assert report(results.output)["map"]["pic"] == [BROKEN], reason


def test_pictures_that_were_not_saved_are_gone_or_are_damaged_are_told_apart(tmp_path):
    results = Results(tmp_path / "out", save=["overlay"])
    results.add("gone.png", files=False)
    results.add("damaged.png", files=lambda paths, number: (results.output / paths["overlay"]).write_bytes(b"no PNG"))
    results.add("pipe.png", files=lambda paths, number: os.mkfifo(results.output / paths["overlay"]))
    out = results.output
    data = report(out)
    assert dict(zip(data["image"]["n"], data["map"]["pic"], strict=True)) == {
        "damaged.png": BROKEN, "gone.png": MISSING, "pipe.png": MISSING,
    }  # fmt: skip
    none = Results(tmp_path / "none", save=[])
    none.add("a.png")
    assert report(none.output)["map"]["pic"] == [NONE]
    assert "No picture was saved." in (tmp_path / "none" / "index.html").read_text()


def test_a_photo_that_has_changed_since_is_not_shown_as_the_one_that_was_explained(tmp_path):
    out = Results(tmp_path / "out", tmp_path / "photos").add_many(3).output
    photo(tmp_path / "photos" / "000000.png", 17)  # another picture
    os.utime(tmp_path / "photos" / "000001.png", (5, 5))  # the same, copied
    (tmp_path / "photos" / "000002.png").unlink()
    image = report(out)["image"]
    assert image["pt"] == [-1, SMALL, MISSING] and image["p"] == [-1, 0, -1]


def test_torn_and_hostile_lines_are_passed_over_and_named_where_an_image_is_known(tmp_path):
    results = Results(tmp_path / "out")
    results.add("good.png")
    results.append({"type": "done", "name": "older.png", "status": "ok", "outputs": {"overlay": "older.png.png"}})
    for lie in (
        {"placement": {"image_size": [float("1e300"), 1], "box": [0, 0, 1, 1], "size": [1, 1]}},
        {"outputs": {"overlay": "../../etc/passwd"}},
        {"score": "high"},
        {"relevance": [[[[]]]]},
        {"top": [[1, "x", 7]]},
        {"path": "relative/../x", "size": 1, "mtime_ns": 1},
        {"path": "/nul\0", "size": 1, "mtime_ns": 1},
    ):
        record = results.add("first.png").as_json()
        results.append({**record, "type": "done", "name": f"{next(iter(lie))}.png", **lie})
    out = results.output
    with (out / ".lrp" / JOURNAL).open("ab") as file:
        file.write(b'null\n[1]\n{"type": "done", "name": {"bytes": "@"}}\n')
        file.write(b"[" * 100_000 + b'\n{"type": "done", "na')
    data = report(out)
    names = dict(zip(data["image"]["n"], (data["statuses"][number] for number in data["image"]["s"]), strict=True))
    assert names.pop("good.png") == names.pop("first.png") == "ok"
    assert names.pop("path.png") == "ok"
    assert names.pop("placement.png") in ("ok", "unreadable")
    assert names == dict.fromkeys(("older.png", "outputs.png", "score.png", "relevance.png", "top.png"), "unreadable")


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'{"model": 1}', b"\xff\xfe"])
def test_settings_that_cannot_be_read_are_said_on_the_page(tmp_path, content):
    results = Results(tmp_path / "out")
    results.add("a.png")
    out = results.output
    (out / ".lrp" / "run.json").write_bytes(content)
    assert statuses(report(out)) == {"ok": 1}
    assert "is damaged" in (out / "index.html").read_text()
    (out / ".lrp" / "run.json").unlink()
    assert statuses(report(out)) == {"ok": 1}
    assert "the settings are not known" in (out / "index.html").read_text()


@pytest.mark.parametrize(
    "picture", [{"cmap": "evil"}, {"cmap": 3, "smooth": "x"}, "no object", {"cmap": "bwr", "smooth": 9e9}]
)
def test_hostile_settings_of_pictures_fall_back_to_the_usual_ones(tmp_path, picture):
    results = Results(tmp_path / "out", save=["map"], picture=picture)
    results.add("a.png")
    assert report(results.output)["map"]["pic"] == [SMALL]


def test_what_other_settings_made_and_what_is_under_way_have_a_status_of_their_own(tmp_path):
    results = Results(tmp_path / "out")
    results.add("current.png")
    record = results.add("old.png")
    results.append({**record.as_json(), "type": "done", "run": "another"})
    results.start("begun.png")
    results.add("again.png")
    results.start("again.png")
    assert statuses(report(results.output)) == {"ok": 2, "other settings": 1, "unfinished": 1}


def test_a_clash_of_names_is_a_failure_beside_the_result_that_has_the_name(tmp_path):
    results = Results(tmp_path / "out")
    results.begin(2)
    results.add("a.png")
    results.fail("a.png", "clash", "Its name belongs to another image.")
    data = report(results.output)
    assert data["image"]["n"] == ["a.png", "a.png"] and statuses(data) == {"ok": 1, "failed": 1}


def test_no_record_at_all_and_failures_alone_make_a_page(tmp_path):
    results = Results(tmp_path / "out")
    assert statuses(report(results.output)) == {}
    results.fail("a.jpg")
    assert statuses(report(results.output)) == {"failed": 1}


def test_a_report_can_be_made_while_a_run_writes(tmp_path):
    results = Results(tmp_path / "out")
    stop = threading.Event()

    def write():
        while not stop.is_set() and results.number < 5000:
            results.add(f"{results.number:05}.png", files=False)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = [len(report(results.output)["image"]["n"]) for _ in range(3)]
    finally:
        stop.set()
        writer.join()
    assert counts == sorted(counts)
    assert len(report(results.output)["image"]["n"]) == results.number


HOSTILE = [
    "<script>alert(1)</script>.png", "\"quoted\" & 'single'.png", "\u202egnp.exe.png", "line\nbreak\r.png",
    "javascript:alert(1).png", "%2e%2e%2f.png", "#hash?query.png", "bytes-\udcff\udcfe.png", "back\\slash.png",
    "data:text/html,<b>.png", "</script><img src=x onerror=alert(1)>.png", "--><!--.png", "{{ 7 * 7 }}.png",
    "\u0645\u0631\u062d\u0628\u0627.png", "sp ace/..hidden/a.png", "\x1b[2Jescape.png",
]  # fmt: skip
LABELS = ["<b>bold</b>", "</script><script>alert(2)</script>", "\u202eevil", "a\nb", "' onmouseover='alert(3)"]


def hostile(tmp_path):
    """Results of images whose names and labels would do harm if they were anything but text."""
    results = Results(tmp_path / "out", tmp_path / "photos")
    for number, name in enumerate(HOSTILE):
        photo(tmp_path / "photos" / name, number)
        results.add(name, label=LABELS[number % len(LABELS)], note="<i>note</i>")
    results.fail("<img src=x>.jpg", "decode", "<script>alert(4)</script> \u202e\x00")
    return results.output


class Tags(HTMLParser):
    """The elements of a page, and all their attributes."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes = Counter(), []

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes += attributes


def test_hostile_names_and_labels_stay_text_in_the_file(tmp_path):
    out = hostile(tmp_path)
    data = report(out)
    text = (out / "index.html").read_bytes().decode("utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.tags["script"] == 2 and tags.tags["style"] == 1
    assert not [name for name, _ in tags.attributes if name.startswith("on") or name == "style"]
    addresses = [value for name, value in tags.attributes if name in ("href", "src")]
    assert not [value for value in addresses if re.match(r"(?i)\s*(javascript:|https?:|//)", value)]
    shown = text.replace("\n", "")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\ud800-\udfff]", shown)
    assert "{{ 7 * 7 }}" in text
    for number, name in enumerate(data["image"]["n"]):
        place = data["sparse"]["address"].get(str(number))
        if place is not None:
            assert re.fullmatch(r"[\w.~!*'()%/-]+", place), name
    assert not re.search("[\x00-\x1f\u202e\ud800-\udfff]", json.dumps(data, ensure_ascii=False))
    assert set(data["map"]["pic"]) == {SMALL}


def test_the_policy_of_the_page_allows_its_own_script_and_style_alone(tmp_path):
    results = Results(tmp_path / "out")
    results.add("a.png")
    report(results.output)
    text = (tmp_path / "out" / "index.html").read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:; script-src 'sha256-")
    assert "unsafe" not in policy and "*" not in policy
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_the_script_is_small_and_of_our_own():
    assert len(_own("page.js").encode()) < 20_000
    for name in ("js", "css", "html"):
        text = _own(f"page.{name}")
        assert not re.search(r"https?:|//cdn|innerHTML|insertAdjacentHTML|document\.write|eval\(|url\(", text), name


def test_a_page_that_something_else_made_is_left_alone(tmp_path):
    results = Results(tmp_path / "out")
    results.add("a.png")
    out = results.output
    for make in (
        lambda path: path.write_text("<p>mine"), lambda path: path.mkdir(), os.mkfifo,
        lambda path: path.symlink_to(tmp_path / "elsewhere"),
    ):  # fmt: skip
        make(out / "index.html")
        done = lrp("report", out)
        assert done.exit_code == 2 and "lrp report did not write it" in done.stderr
        folder = (out / "index.html").is_dir()
        (out / "index.html").rmdir() if folder else (out / "index.html").unlink()
    assert not (tmp_path / "elsewhere").exists()


def test_folders_without_results_are_refused_by_name(tmp_path):
    done = lrp("report", tmp_path)
    assert done.exit_code == 2 and "nothing was explained into it" in done.stderr
    done = lrp("report", tmp_path / "missing")
    assert done.exit_code == 2 and "missing" in done.stderr
    (tmp_path / ".lrp").mkdir()
    (tmp_path / ".lrp" / "evaluate-1-of-1.jsonl").write_text("")
    done = lrp("report", tmp_path)
    assert done.exit_code == 2 and "lrp evaluate" in done.stderr
    results = Results(tmp_path / "out")
    done = lrp("report", results.output, "--with", tmp_path / "other")
    assert done.exit_code == 2 and "other" in done.stderr


def test_links_in_the_place_of_the_small_pictures_are_not_followed(tmp_path):
    out = Results(tmp_path / "out", tmp_path / "photos").add_many(1).output
    (tmp_path / "elsewhere").mkdir()
    (out / "lrp-report").symlink_to(tmp_path / "elsewhere")
    done = lrp("report", out)
    assert done.exit_code in (1, 3) and "lrp-report" in done.stderr
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_walk_for_images_passes_over_the_small_pictures(tmp_path):
    Results(tmp_path / "all" / "one", tmp_path / "photos").add_many(2)
    Results(tmp_path / "all" / "two", tmp_path / "photos").add_many(2)
    report(tmp_path / "all")
    assert pictures(tmp_path / "all")
    found = Discovery([str(tmp_path / "all")])
    assert list(found) == [] and found.results == 3


def test_folders_below_and_others_are_shown_beside_each_other(tmp_path):
    for name, config in (("one", "epsilon"), ("two", "gamma")):
        Results(tmp_path / "all" / name, tmp_path / "photos", config=config).add_many(3, targets=2)
    below = report(tmp_path / "all")
    assert [run["name"] for run in below["runs"]] == ["one", "two"]
    assert [run["at"] for run in below["runs"]] == ["one/", "two/"]
    assert below["image"]["first"] == [0, 4, 8] and below["map"]["r"][:4] == [0, 0, 1, 1]
    assert below["map"]["pic"] == [SMALL] * 12 and len(pictures(tmp_path / "all")) == 12 + 3
    beside = report(tmp_path / "all" / "one", "--with", tmp_path / "all" / "two")
    assert [run["at"] for run in beside["runs"]] == ["", "../two/"]
    assert beside["map"]["r"] == below["map"]["r"]
    assert len(report(tmp_path / "all" / "one")["map"]["r"]) == 6


def test_the_key_of_the_colours_stands_at_the_top_only_where_it_is_that_of_all_runs(tmp_path):
    for name, scale in (("one", "image"), ("two", "image"), ("three", 0.5)):
        Results(tmp_path / name, scale=scale).add("a.png")
    for others, shown in ((["two"], True), (["two", "three"], False)):
        report(tmp_path / "one", *(part for name in others for part in ("--with", tmp_path / name)))
        text = (tmp_path / "one" / "index.html").read_text()
        assert ("full colour: of each picture its own" in text.partition("<form")[0]) == shown
        assert text.count("full colour:", text.index('id="about"')) == len(others) + 1
    assert '<tr class="differs"><th scope="row">output scale</th>' in text


def test_groups_are_those_of_folders_that_name_classes_with_the_mean_of_their_maps(tmp_path):
    results = Results(tmp_path / "out", tmp_path / "photos")
    for number, (folder, predicted) in enumerate([("Cat", "cat"), ("cat", "cat"), ("cat", "dog"), ("misc", "cat")]):
        photo(tmp_path / "photos" / folder / f"{number}.png", number)
        results.add(f"{folder}/{number}.png", label=predicted)
    out = results.output
    data = report(out)
    groups = [(data["labels"][t], data["labels"][p], images, label) for t, p, images, _, _, label, _ in data["groups"]]
    assert groups == [("cat", "cat", [0, 1], "cat"), ("cat", "dog", [2], "dog")]
    assert "misc (1)" in (out / "index.html").read_text()
    paths = [str(out / "Cat" / "0.png.npy"), str(out / "cat" / "1.png.npy")]
    mean = sum(np.load(path).astype(float) for path in paths) / 2
    assert np.abs(mean_map(paths) - mean).max() < 1e-7
    look = MapLook(picture_style(find_runs(out, ())[0]), None)
    drawn = np.asarray(Image.open(io.BytesIO(heatmap(mean.astype(np.float32), look, 256))).convert("RGB"), int)
    stored = np.asarray(Image.open(out / "lrp-report" / data["groups"][0][3]).convert("RGB"), int)
    assert np.abs(drawn - stored).max() <= 1


def test_groups_know_folders_by_synset_ids_with_the_labels_of_the_run(tmp_path):
    lines = ["n02012849 crane", "n03126707 crane", "n01440764 tench, Tinca tinca"]
    (tmp_path / "names.txt").write_text("\n".join(lines) + "\n")
    results = Results(tmp_path / "out", labels_sha256=hashlib.sha256("\n".join(lines).encode()).hexdigest())
    for folder, index, label in [
        ("n02012849", 0, "crane"), ("N02012849", 1, "crane"), ("Tinca_tinca", 2, "tench"), ("crane", 0, "crane"),
    ]:  # fmt: skip
        results.add(f"{folder}/a.png", label=label, target=index)
    out = results.output

    def groups(*options):
        data = report(out, *options)
        return {
            (data["labels"][t], data["labels"][p], found): len(images)
            for t, p, images, _, _, _, found in data["groups"]
        }

    # Two classes are called crane: a folder of that name is neither, and one taken for the other is no hit.
    assert groups() == {}
    assert groups("--labels", tmp_path / "names.txt") == {
        ("crane", "crane", 1): 1, ("crane", "crane", 0): 1, ("tench", "tench", 1): 1,
    }  # fmt: skip
    (tmp_path / "names.txt").write_text("other\n")
    done = lrp("report", out, "--labels", tmp_path / "names.txt")
    assert done.exit_code == 2 and "is not that of the model" in done.stderr


def test_targets_from_the_folder_are_the_true_classes(tmp_path):
    results = Results(tmp_path / "out", targets=["from-folder"])
    results.add("n1/a.png", label="tench", predicted="eel")
    data = report(results.output)
    assert [(data["labels"][t], data["labels"][p]) for t, p, *_ in data["groups"]] == [("tench", "eel")]


def test_maps_on_photos_have_no_mean(tmp_path):
    results = Results(tmp_path / "out", tmp_path / "photos", map_space="image")
    for number in range(2):
        photo(tmp_path / "photos" / "cat" / f"{number}.png", number)
        results.add(f"cat/{number}.png", label="cat")
    assert report(results.output)["groups"][0][3:5] == ["", NONE]


def test_a_single_file_holds_its_pictures_and_no_address_of_a_file(tmp_path):
    out = Results(tmp_path / "out", tmp_path / "photos").add_many(3).output
    data = report(out, "--single-file")
    assert not (out / "lrp-report").exists() and len(data["pictures"]) == 6
    assert all(value.startswith("data:image/webp;base64,") for value in data["pictures"].values())
    assert data["roots"] == [] and data["runs"][0]["at"] == ""
    text = (out / "index.html").read_text()
    assert "../photos" not in text and str(tmp_path / "photos") not in text
    many = Results(tmp_path / "many")
    for number in range(101):
        many.add(f"{number}.png", files=False)
    done = lrp("report", many.output, "--single-file")
    assert done.exit_code == 2 and "101 images" in done.stderr and "at most 100" in done.stderr
    assert not (tmp_path / "many" / "index.html").exists()


def test_a_full_disk_leaves_the_page_that_was_there(tmp_path, monkeypatch):
    out = Results(tmp_path / "out", tmp_path / "photos").add_many(1).output
    report(out)
    before = (out / "index.html").read_bytes()
    replace = os.replace

    def full(source, target, **folders):
        if str(target) == "index.html":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target, **folders)

    monkeypatch.setattr(os, "replace", full)
    done = lrp("report", out)
    assert done.exit_code == 3 and "Free some space" in done.stderr
    assert (out / "index.html").read_bytes() == before
    assert not list(out.glob(".lrp-*.tmp"))


def test_leftovers_of_a_killed_report_are_removed(tmp_path):
    out = Results(tmp_path / "out").output
    (out / ".lrp-report-0123456789abcdef.tmp").write_bytes(b"x")
    (out / ".lrp-1-of-1-0123456789abcdef.tmp").write_bytes(b"x")
    report(out)
    assert [path.name for path in out.glob(".lrp-*.tmp")] == [".lrp-1-of-1-0123456789abcdef.tmp"]


def test_the_same_results_give_the_same_page(tmp_path):
    out = Results(tmp_path / "out", tmp_path / "photos").add_many(3, folders=["cat", "dog"]).output
    report(out)
    first = (out / "index.html").read_bytes()
    report(out, "-j", "3")
    assert (out / "index.html").read_bytes() == first


@pytest.mark.slow
def test_explain_makes_the_report_at_its_end_without_another_line_on_standard_output(tmp_path):
    photos = folder_of_photos(tmp_path / "photos", 3)
    plain = lrp("explain", *TINY_NET, photos, tmp_path / "plain")
    done = lrp("explain", *TINY_NET, photos, tmp_path / "out", "--report")
    assert done.exit_code == 0, done.output
    assert done.stdout.replace("/out/", "/plain/") == plain.stdout
    assert f"{tmp_path}/out/index.html" in done.stderr
    data = records(tmp_path / "out")
    assert statuses(data) == {"ok": 3} and data["map"]["pic"] == [SMALL] * 3
    assert "rule of each layer" in (tmp_path / "out" / "index.html").read_text().lower()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    done = lrp("explain", *TINY_NET, photos, tmp_path / "mine", "--report")
    assert done.exit_code == 2 and [path.name for path in (tmp_path / "mine").iterdir()] == ["index.html"]


def test_a_report_does_not_load_torch(tmp_path):
    out = Results(tmp_path / "out", tmp_path / "photos").add_many(1).output
    code = (
        "import sys\n"
        "from lrpcli.cli import main\n"
        f"try: main(['report', {str(out)!r}], prog_name='lrp')\n"
        "except SystemExit: sys.exit(' '.join({'torch', 'torchvision', 'matplotlib'} & set(sys.modules)) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
