"""--pack tar where others work on rows: tars of their own, and in them what one process packs."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import lrpcli
from lrpcli.errors import UsageError
from lrpcli.records import folder as folders
from lrpcli.records.packed import TarName, member_base
from lrpcli.records.stores import Place
from lrpcli.records.tar_store import TarStore
from lrpcli.records.tars import Tars
from tests.photos import photo
from tests.pipeline.test_packs import READ_SAMPLES
from tests.records.results import explained, write
from tests.resilience.kill_rounds import engine_rounds, packed_files
from tests.resilience.runs import (
    TINY_OPTIONS,
    environment,
    explain,
    journal,
    killed,
    leftovers,
    lrp,
    process,
    rows,
    started,
    tree,
    wait_for,
)
from tests.scale.engines import (
    SMALL,
    finished,
    hostile_packer,
    nets_of,
    nets_of_ray,
    poison,
    running_nets,
    shown,
    unpacked,
    without_torch,
)

pytest.importorskip("pyarrow", reason="packing needs pyarrow: pip install 'lrpcli[pack]'")
PACK = ("--pack", "tar", *SMALL)
PROCESSES = ("--engine", "processes", "--workers", "2")
RAY = ("--engine", "ray", "--workers", "2")


@pytest.fixture(scope="module")
def packed(inline, tmp_path_factory):
    """The photos of `inline`, what others made tars of, and what that run printed."""
    source, _, _ = inline
    out = tmp_path_factory.mktemp("packed") / "out"
    return source, out, explain(source, out, *PACK, *PROCESSES, "--json")


def opened(output):
    """The tars that are not whole."""
    return sorted(path.name for path in (output / ".lrp").glob("open-*"))


def require_once(output, calm):
    """Every file of the calm run lies in the tars, once, and nothing is left open."""
    found = packed_files(output)
    assert len(found) == len(dict(found)) and dict(found) == tree(calm)
    assert opened(output) == [] and leftovers(output) == []


@pytest.mark.slow
def test_tars_of_rows_hold_what_one_process_packs_and_every_command_finds_it(packed, inline, tmp_path):
    import pyarrow.parquet

    _, calm, first = inline
    _, out, result = packed
    assert result.returncode == 1, result.stderr
    require_once(out, calm)
    names = sorted(path.name for path in out.glob("*.tar"))
    assert names == [f"lrp-{number}-of-5-000000.tar" for number in range(1, 6)]
    found = shown(result)
    for row in found:
        for one in [row, *row.get("explanations", ())]:
            one.pop("pack", None)
    assert found == shown(first), "the records of one process, in the order of the inputs"
    assert unpacked(out, tmp_path / "files") == tree(calm)
    maps, files = lrpcli.open_maps(out), lrpcli.open_maps(calm)
    assert list(maps) == list(files) and all(np.array_equal(maps[name], files[name]) for name in files)
    status = json.loads(lrp("status", out, "--json").stdout)
    assert (status["done"], status["open"], status["missing"]) == (9, 0, 0)
    index = pyarrow.parquet.read_table(out / "index.parquet").to_pylist()
    assert [row["name"] for row in index if row["tar"]] == list(files)
    assert {row["tar"] for row in index} - {None} == set(names)
    assert lrp("table", out).stdout.count(".tar") >= 9 and lrp("report", out).exit_code == 0


@pytest.mark.slow
def test_webdataset_reads_the_tars_of_rows(packed, inline):
    """In a process of its own, as in tests.pipeline.test_packs."""
    pytest.importorskip("webdataset")
    _, calm, _ = inline
    line = [sys.executable, "-c", READ_SAMPLES, *sorted(map(str, packed[1].glob("*.tar")))]
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    samples = pickle.loads(subprocess.run(line, env=env, capture_output=True, check=True).stdout)
    assert sorted(member_base(key) for key, *_ in samples) == sorted(lrpcli.open_maps(calm))
    for key, relevance, *_ in samples:
        np.testing.assert_array_equal(relevance, np.load(calm / f"{member_base(key)}.npy"))


def sound_copy(packed, inline, folder):
    """Copies of the photos, without the broken one, and of what was packed of them."""
    whole, out = folder / "in", folder / "out"
    shutil.copytree(inline[0], whole, copy_function=shutil.copy2)
    shutil.copytree(packed[1], out)
    (whole / "5bad.png").unlink()
    return whole, out


@pytest.mark.slow
def test_whoever_goes_on_finds_everything_done(packed, inline, tmp_path):
    whole, out = sound_copy(packed, inline, tmp_path)
    before = {name: content for name, content in tree(out).items() if name.endswith(".tar")}
    for engine in (("--engine", "processes", "--workers", "3"), (), PROCESSES):
        again = explain(whole, out, *PACK, *engine, "--json")
        assert again.returncode == 0 and [row["status"] for row in rows(again)[:-1]] == ["skipped"] * 9
    assert before == {name: content for name, content in tree(out).items() if name.endswith(".tar")}
    (out / "index.parquet").unlink()
    env = environment(path=[without_torch(tmp_path / "code"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = process("explain", *TINY_OPTIONS, whole, out, *PACK, *PROCESSES, "--json", env=env)
    assert done.returncode == 0 and {row["status"] for row in rows(done)[:-1]} == {"skipped"}, done.stderr
    assert (out / "index.parquet").exists() and opened(out) == []
    photo(whole / "new.png", 99)
    more = rows(explain(whole, out, *PACK, *PROCESSES, "--json"))
    assert [row["status"] for row in more[:-1]].count("ok") == 1
    assert all((out / name).read_bytes() == content for name, content in before.items())
    photo(whole / "0.png", 98)
    changed = explain(whole, out, *PACK, *PROCESSES, "--json")
    errors = [row["error"] for row in rows(changed)[:-1] if row["status"] == "failed"]
    assert [error["kind"] for error in errors] == ["clash"] and "has changed" in errors[0]["message"]


@pytest.mark.slow
def test_a_tar_that_was_left_open_is_closed_also_where_nothing_is_to_be_done(packed, inline, tmp_path):
    whole, out = sound_copy(packed, inline, tmp_path)
    assert explain(whole, out, *PACK, *PROCESSES).returncode == 0
    before = tree(out)
    for engine in (PROCESSES, ("--engine", "processes", "--workers", "3"), ()):
        for number in (1, 4):
            name = TarName(f"{number}-of-5", 0)
            (out / name.name).rename(out / ".lrp" / name.open_name)
            with (out / ".lrp" / name.open_name).open("ab") as file:
                file.write(b"an image without a line" * 100)
        assert json.loads(lrp("status", out, "--json").stdout)["open"] == 4
        assert explain(whole, out, *PACK, *engine).returncode == 0
        assert opened(out) == [] and tree(out).keys() == before.keys()
        assert all(tree(out)[name] == before[name] for name in before if name.endswith(".tar"))


@pytest.mark.slow
def test_a_net_that_is_killed_and_a_command_that_is_killed_lose_nothing(tmp_path, inline):
    """By hand with 20 kills: python -m tests.resilience.kill_rounds 20"""
    found = engine_rounds(tmp_path, 5, 40, nets_of, "--engine", "processes", seed=2)
    assert found.pop("nets") >= 1 and found.pop("commands") >= 1 and found.pop("tars") >= 8
    assert found.pop("reruns") < 4 and found.pop("rows in the index") == 40
    assert found == {"exit": 0, "images": 40, "twice": 0, "equal": True, "open": 0}


@pytest.mark.slow
def test_an_image_that_kills_two_processes_is_crashed_and_its_neighbours_are_packed(tmp_path, inline):
    source, calm, _ = inline
    out = tmp_path / "out"
    path = [hostile_packer(tmp_path / "code"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    deadly = poison(source)
    try:
        result = process(
            "explain", *TINY_OPTIONS, source, out, *PACK, *PROCESSES, "--json", env=environment(path=path)
        )  # fmt: skip
    finally:
        deadly.unlink()
    failed = [row["error"]["kind"] for row in shown(result) if row.get("status") == "failed"]
    assert result.returncode == 1 and failed == ["decode", "crashed"], result.stderr
    assert dict(packed_files(out)).keys() == tree(calm).keys() and len(packed_files(out)) == 18
    assert opened(out) == []


@pytest.mark.slow
def test_a_signal_ends_the_run_in_order_and_closes_what_is_open(tmp_path, inline):
    source, calm, _ = inline
    out = tmp_path / "out"
    running = started(source, out, *PACK, *PROCESSES)
    wait_for(lambda: finished(out))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=300)
    assert opened(out) == [] and (out / "index.parquet").exists()
    assert explain(source, out, *PACK, *PROCESSES).returncode == 1
    require_once(out, calm)


@pytest.mark.slow
def test_force_begins_anew_where_no_tar_is_whole(tmp_path, inline):
    source, calm, _ = inline
    out = tmp_path / "out"
    assert explain(source, out, *PACK, *PROCESSES).returncode == 1
    before = tree(out)
    for engine in (PROCESSES, ()):
        refused = explain(source, out, *PACK, *engine, "--force")
        assert refused.returncode == 2 and b"holds 'lrp-1-of-5-000000.tar', and tar shards are" in refused.stderr
        assert tree(out) == before
    for path in out.glob("*.tar"):
        path.rename(out / ".lrp" / path.name.replace("lrp-", "open-"))
    (out / "index.parquet").unlink()
    refused = explain(source, out, *PACK, "--force")
    assert refused.returncode == 2 and b"holds '.lrp/open-1-of-5-000000.tar', and" in refused.stderr
    assert len(opened(out)) == 5
    done = explain(source, out, *PACK, *PROCESSES, "--force", "--json")
    assert [row["status"] for row in rows(done)[:-1]].count("ok") == 9
    require_once(out, calm)


@pytest.mark.slow
def test_shards_of_both_sorts_pack_beside_each_other(tmp_path, inline):
    source, calm, _ = inline
    out = tmp_path / "out"
    explain(source, out, *PACK, *PROCESSES, "--shard", "1/2")
    explain(source, out, *PACK, "--shard", "2/2")
    require_once(out, calm)
    explain(source, out, *PACK)
    require_once(out, calm)


@pytest.mark.slow
def test_actors_pack_as_processes_do(tmp_path, inline, monkeypatch):
    """By threads that stand for actors, so that it is known without a cluster, too."""
    from tests.scale.fake_ray import FakeRay

    source, calm, _ = inline
    out = tmp_path / "out"
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    assert explain(source, out, *PACK, *RAY).returncode == 1
    require_once(out, calm)
    assert len(list(out.glob("*.tar"))) == 5


@pytest.mark.slow
def test_workers_of_ray_that_are_killed_lose_nothing(tmp_path, inline, monkeypatch):
    if find_spec("ray") is None:
        pytest.skip("needs the package ray: pip install 'lrpcli[ray]'")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = engine_rounds(tmp_path, 3, 40, nets_of_ray, "--engine", "ray", seed=2)
    assert found.pop("nets", 0) + found.pop("commands", 0) >= 2 and found.pop("tars") >= 8
    assert found.pop("reruns") < 4 and found.pop("rows in the index") == 40
    assert found == {"exit": 0, "images": 40, "twice": 0, "equal": True, "open": 0}


def test_a_row_looks_at_no_tar_but_its_own(tmp_path, monkeypatch):
    """There may be thousands of rows, and as many tars as that: to list them for each would be their square."""
    out, store = tmp_path / "out", TarStore(Place(tmp_path / "out", "2-of-9", 1e6))
    write(out, {**explained("a.jpg").as_json(), "type": "done"}, journal="journal-2-of-9.jsonl")
    name = TarName("2-of-9", 0)
    (out / ".lrp" / name.open_name).write_bytes(b"no line speaks of this")

    def listed(*arguments):
        raise AssertionError("a folder was listed")

    monkeypatch.setattr(folders.os, "listdir", listed)
    with store.opened_row():
        assert not (out / ".lrp" / name.open_name).exists()
    assert list(out.glob("*.tar")) == []


def test_another_process_that_writes_into_a_tar_is_found_where_no_lock_keeps_it_from_that(tmp_path):
    from lrpcli.errors import OutputError
    from lrpcli.records.stores import NewFile

    out = tmp_path / "out"
    first, second = (TarStore(Place(out, "1-of-2", 1e6)) for _ in range(2))
    write(out, journal="journal-1-of-2.jsonl")

    def pack(store, name):
        record = explained(name)
        paths = record.outputs[0].paths
        store.put(name, f"{name}.281", [NewFile(kind, paths[kind], b"content") for kind in paths])
        with store.kept(record) as kept:
            write(out, kept, journal="journal-1-of-2.jsonl")

    with pytest.raises(OutputError, match="another process writes into it, where no lock"), second.opened_row():
        pack(second, "a.jpg")
        with first.opened_row():
            pack(first, "b.jpg")
            pack(second, "c.jpg")


@pytest.mark.parametrize(
    ("own", "rows_of_it", "tar", "refused"),
    [
        ("1-of-1", 1, "1-of-1", True),
        ("1-of-2", 1, "2-of-2", False),
        ("1-of-2", 3, "2-of-6", False),
        ("1-of-2", 3, "5-of-6", True),
        ("1-of-2", 3, "1-of-2", True),
        ("2-of-2", 3, "6-of-6", True),
        ("2-of-2", 3, "1-of-4", True),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_force_is_refused_for_tars_of_own_rows_and_of_other_divisions(tmp_path, own, rows_of_it, tar, refused, whole):
    name = TarName(tar, 0)
    (tmp_path / ".lrp").mkdir()
    place = tmp_path / name.name if whole else tmp_path / ".lrp" / name.open_name
    place.write_bytes(b"")
    tars = Tars(tmp_path)
    tars.ends[name] = 0
    sibling = int(tar.split("-")[2]) == int(own.split("-")[2]) * rows_of_it
    store = TarStore(Place(tmp_path, own, 1e6))
    with store.opened_for_rows(tars, rows=rows_of_it, force=False):
        pass
    if refused and (whole or not sibling):
        with pytest.raises(UsageError, match="tar shards are never written again"):
            store.opened_for_rows(tars, rows=rows_of_it, force=True).__enter__()
    else:
        with store.opened_for_rows(tars, rows=rows_of_it, force=True):
            pass


def test_processes_of_a_command_that_is_killed_end(tmp_path, inline):
    source, calm, _ = inline
    out = tmp_path / "out"
    running = started(source, out, *PACK, *PROCESSES)
    wait_for(lambda: finished(out))
    nets = nets_of(running.pid)
    killed(running)
    wait_for(lambda: not set(nets) & set(running_nets()))
    done = [line["name"] for path in (out / ".lrp").glob("journal-*") for line in journal(out, path.name)
            if line["type"] == "done" and line["status"] == "ok"]  # fmt: skip
    again = explain(source, out, *PACK, "--json")
    assert [row["status"] for row in rows(again)[:-1]].count("skipped") == len(done)
    require_once(out, calm)
