"""--engine processes and ray below URLs: what one process makes, without a folder that they share."""

import itertools
import json
import os
import pickle
import signal
import sys
from importlib.util import find_spec

import pytest

pytest.importorskip("fsspec", reason="needs fsspec: pip install 'lrpcli[remote]'")

from lrpcli import remote
from lrpcli.errors import StoppedError
from lrpcli.records import segments
from lrpcli.records.handed import HOPELESS, note_attempt
from lrpcli.records.journal import journal_size, read_lines
from lrpcli.records.segments import NewLines, PieceJournal, forget, put_alone
from lrpcli.remote import Remote, open_input, opened_inputs
from tests.photos import photo
from tests.remote.places import SECRET, contents, done, put, table, upload
from tests.remote.server import same_environment
from tests.resilience.runs import (
    TINY_OPTIONS,
    explain,
    hostile_decoder,
    killed,
    lrp,
    process,
    rows,
    started,
    tree,
    wait_for,
)
from tests.scale.engines import (
    SMALL,
    hostile_packer,
    nets_of,
    nets_of_ray,
    photos_with_a_broken_one,
    poison,
    shown,
    without_torch,
)

PROCESSES = ("--engine", "processes", "--workers", "2")
RAY = ("--engine", "ray", "--workers", "2")
NAME = "journal-2-of-3.jsonl"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    """Nine photos and a broken one, and what a single process makes of them."""
    folder = tmp_path_factory.mktemp("inline")
    source = photos_with_a_broken_one(folder / "in")
    return source, folder / "out", explain(source, folder / "out", *SMALL, "--json")


@pytest.fixture
def bucket(s3):
    """A URL below which nothing lies yet, and the environment of processes that find it."""
    return f"s3://bucket/engines-{os.getpid()}-{next(_numbers)}", same_environment(**s3)


def named(found, *places):
    """Rows of --json without where the inputs lie, which messages name too."""
    text = json.dumps(found)
    for place in places:
        text = text.replace(str(place), "IN")
    return json.loads(text)


@pytest.mark.slow
def test_inputs_and_outputs_may_be_urls_and_everything_done_loads_no_net(inline, bucket, tmp_path):
    source, calm, first = inline
    place, _ = bucket
    upload(source, f"{place}/in")
    result = explain(f"{place}/in", f"{place}/out", *SMALL, *PROCESSES, "--json")
    assert result.returncode == 1 and contents(f"{place}/out") == tree(calm), result.stderr
    assert named(shown(result), f"{place}/in") == named(shown(first), source)
    tables = [[row for row in table(output, "input") if "ok" in row] for output in (f"{place}/out", calm)]
    assert sorted(tables[0]) == sorted(tables[1]) and len(tables[0]) == 9
    status = json.loads(lrp("status", f"{place}/out", "--json").stdout)
    assert (status["done"], status["failed"], status["missing"], status["shards"]) == (9, 1, 0, 5)
    for engine in ((), ("--engine", "processes", "--workers", "3"), PROCESSES):
        again = explain(f"{place}/in", f"{place}/out", *SMALL, *engine, "--json")
        assert [row["status"] for row in rows(again)[:-1]].count("skipped") == 9, again.stderr
    assert len(done(f"{place}/out")) == 9
    files, path = remote.Remote(place)._files, f"{place.partition('://')[2]}/in/5bad.png"
    files.rm_file(path)
    assert explain(f"{place}/in", f"{place}/out", *SMALL, *PROCESSES).returncode == 0
    hidden = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    env = {**bucket[1], "PYTHONPATH": os.pathsep.join([str(without_torch(tmp_path / "code")), *hidden])}
    last = process("explain", *TINY_OPTIONS, f"{place}/in", f"{place}/out", *SMALL, *PROCESSES, "--json", env=env)
    assert last.returncode == 0 and {row["status"] for row in rows(last)[:-1]} == {"skipped"}, last.stderr
    forced = explain(f"{place}/in", f"{place}/out", *SMALL, *PROCESSES, "--force", "--json")
    assert [row["status"] for row in rows(forced)[:-1]].count("ok") == 9 and contents(f"{place}/out") == tree(calm)
    other = explain(f"{place}/in", f"{place}/out", *SMALL, *PROCESSES, "--dtype", "float16")
    assert other.returncode == 2 and b"holds results that were made otherwise" in other.stderr


@pytest.mark.slow
def test_one_of_both_may_be_a_url(inline, bucket, tmp_path):
    source, calm, _ = inline
    place, _ = bucket
    upload(source, f"{place}/in")
    assert explain(f"{place}/in", tmp_path / "out", *SMALL, *PROCESSES, "--shard", "1/2").returncode in (0, 1)
    assert explain(f"{place}/in", tmp_path / "out", *SMALL, "--shard", "2/2").returncode in (0, 1)
    assert tree(tmp_path / "out") == tree(calm)
    assert explain(source, f"{place}/out", *SMALL, *PROCESSES).returncode == 1
    assert contents(f"{place}/out") == tree(calm)


@pytest.mark.slow
def test_a_net_that_is_killed_and_a_command_that_is_killed_lose_nothing(inline, bucket, tmp_path):
    source, calm, _ = inline
    place, env = bucket
    hidden = env["PYTHONPATH"]
    env = {**env, "SLOW": "2", "PYTHONPATH": f"{hostile_decoder(tmp_path / 'code')}{os.pathsep}{hidden}"}
    slow = photo(source / "slow.png", 50)
    try:
        running = started(source, place, *SMALL, *PROCESSES, env=env)
        wait_for(lambda: done(place))
        os.kill(nets_of(running.pid)[0], signal.SIGKILL)
        running.communicate(timeout=300)
    finally:
        slow.unlink()
    found = contents(place)
    assert running.returncode == 1 and {name: found[name] for name in tree(calm)} == tree(calm)
    running = started(source, f"{place}/2", *SMALL, *PROCESSES, env=env)
    wait_for(lambda: done(f"{place}/2"))
    killed(running)
    before = set(done(f"{place}/2"))
    again = explain(source, f"{place}/2", *SMALL, "--engine", "processes", "--workers", "3", "--json")
    assert again.returncode == 1 and contents(f"{place}/2") == tree(calm)
    assert [row["status"] for row in rows(again)[:-1]].count("skipped") >= len(before) > 0


@pytest.mark.slow
def test_an_image_that_kills_processes_at_once_is_crashed_though_little_was_put(inline, bucket, tmp_path):
    source, calm, _ = inline
    place, env = bucket
    env = {**env, "PYTHONPATH": f"{hostile_packer(tmp_path / 'code')}{os.pathsep}{env['PYTHONPATH']}"}
    deadly = poison(source)
    try:
        result = process("explain", *TINY_OPTIONS, source, place, *SMALL, *PROCESSES, "--json", env=env)
    finally:
        deadly.unlink()
    failed = [row["error"]["kind"] for row in shown(result) if row.get("status") == "failed"]
    assert result.returncode == 1 and failed == ["decode", "crashed"], result.stderr
    assert contents(place).keys() == tree(calm).keys()


@pytest.mark.slow
def test_ray_does_the_same(inline, bucket, tmp_path):
    if find_spec("ray") is None:
        pytest.skip("needs the package ray: pip install 'lrpcli[ray]'")
    source, calm, first = inline
    place, env = bucket
    (tmp_path / "home").mkdir()
    env = {**env, "HOME": str(tmp_path / "home"), "SLOW": "2"}
    env["PYTHONPATH"] = f"{hostile_decoder(tmp_path / 'code')}{os.pathsep}{env['PYTHONPATH']}"
    upload(source, f"{place}/in")
    line = (f"{place}/in", f"{place}/out", *SMALL, *RAY)
    result = process("explain", *TINY_OPTIONS, *line, "--json", env=env)
    assert result.returncode == 1 and contents(f"{place}/out") == tree(calm), result.stderr
    assert named(shown(result), f"{place}/in") == named(shown(first), source)
    slow = photo(source / "slow.png", 50)
    upload(source, f"{place}/in")
    slow.unlink()
    running = started(f"{place}/in", f"{place}/killed", *SMALL, *RAY, env=env)
    wait_for(lambda: done(f"{place}/killed"))
    os.kill(nets_of_ray()[0], signal.SIGKILL)
    running.communicate(timeout=600)
    found = contents(f"{place}/killed")
    assert running.returncode == 1 and {name: found[name] for name in tree(calm)} == tree(calm)


@pytest.mark.slow
def test_actors_read_and_write_urls_where_they_see_no_folder_of_the_command(inline, bucket, tmp_path, monkeypatch):
    """By threads that stand for actors, whose current folder cannot be entered."""
    from lrpcli.scale import ray as ray_engine
    from tests.scale.fake_ray import FakeRay

    source, calm, _ = inline
    place, _ = bucket
    upload(source, f"{place}/in")
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")

    def missing(folder):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(ray_engine.os, "chdir", missing)
    assert explain(f"{place}/in", f"{place}/out", *SMALL, *RAY).returncode == 1
    assert contents(f"{place}/out") == tree(calm)
    refused = explain(source, f"{place}/other", *SMALL, *RAY)
    assert refused.returncode == 3 and b"or below URLs" in refused.stderr


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_what_lies_in_the_memory_of_a_process_is_refused(memory, tmp_path, engine):
    image = photo(tmp_path / "a.png")
    put(memory, {"a.png": image.read_bytes()})
    for arguments in ((memory, tmp_path / "out"), (image, f"{memory}/out")):
        result = explain(*arguments, "--engine", engine)
        assert result.returncode == 2 and f"The URL '{memory}/" in result.stderr.decode()
        assert f"lies in the memory of this process, and those of --engine {engine} do not see it" in str(result.stderr)
    assert not (tmp_path / "out").exists()


def test_logins_go_with_the_work_and_are_not_shown(monkeypatch):
    from lrpcli.scale import Job
    from tests.remote import places

    monkeypatch.setattr(remote, "_ROOTS", {})
    opened = open_input(f"hostile://me:{SECRET}@x/in")
    paths = [f"{opened.url}/{number}.png" for number in range(3)]
    assert opened_inputs(["/a.png", *paths]) == (opened.full,) and SECRET in opened.full
    assert opened_inputs(["hostile://y/a.png", "a.png"]) == ()
    job = Job("builtins:str", ("x",), opened_inputs(paths))
    assert SECRET not in repr(job) and pickle.loads(pickle.dumps(job)) == job
    again = pickle.loads(pickle.dumps(opened))
    assert again.url == opened.url and again.full == opened.full and places.SECRET not in again.url
    remote._ROOTS.clear()
    job.load()
    assert remote._ROOTS[opened.url].full == opened.full


def test_new_lines_are_each_given_once_from_where_the_work_began(memory, monkeypatch):
    monkeypatch.setattr(segments, "LOOK", 0.0)
    folder = Remote(memory)
    put(memory, {f".lrp/{NAME}": b'{"a": 1}\n'})
    put_alone(folder, NAME, {"b": 1})
    forget(folder)
    new = NewLines(folder, NAME, journal_size(folder, NAME))
    assert list(new.read()) == []
    put_alone(folder, NAME, {"c": 1})
    assert list(new.read(soon=True)) == [b'{"c": 1}\n'] and list(new.read()) == []
    put_alone(folder, NAME, {"d": 1}), put_alone(folder, NAME, {"e": 1})
    assert list(new.read()) == [b'{"d": 1}\n', b'{"e": 1}\n']
    assert list(NewLines(folder, NAME, 0).read())[:2] == [b'{"a": 1}\n', b'{"b": 1}\n']
    monkeypatch.setattr(segments, "LOOK", 1000.0)
    put_alone(folder, NAME, {"f": 1})
    assert list(new.read(soon=True)) == [] and list(new.read()) == [b'{"f": 1}\n']


def test_a_run_says_at_once_that_it_began(memory, monkeypatch):
    """Else a worker that dies within the first seconds would leave nothing to tell that it did."""
    monkeypatch.setattr(segments, "SECONDS", 1000.0)
    folder = Remote(memory)
    dead = PieceJournal(folder, NAME)
    dead.append({"type": "run", "part": [2, 3], "images": 6, "share": 2})
    forget(folder)
    assert len(list(read_lines(folder, NAME))) == 1
    assert PieceJournal(folder, NAME)._careful > 0


def test_processes_that_die_while_they_load_are_not_replaced_for_ever(memory):
    folder = Remote(memory)
    for _ in range(HOPELESS):
        note_attempt(folder, NAME, 0)
    with pytest.raises(StoppedError, match="3 processes in a row died while they loaded the net"):
        note_attempt(folder, NAME, 0)
    forget(folder)
    note_attempt(folder, NAME, journal_size(folder, NAME))
    assert PieceJournal(folder, NAME)._careful > 0, "an attempt is no end"
