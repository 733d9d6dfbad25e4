"""--engine ray: with the real package where it is installed, and what is said of it without."""

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from tests.photos import photo
from tests.resilience.runs import (
    TINY_OPTIONS,
    environment,
    explain,
    hostile_decoder,
    hostile_writer,
    killed,
    leftovers,
    process,
    started,
    tree,
    wait_for,
)
from tests.scale.engines import (
    SMALL,
    evaluate,
    finished,
    nets_of_ray,
    poison,
    row_journals,
    shown,
    without_torch,
)
from tests.scale.fake_ray import FakeRay

RAY = ("--engine", "ray", "--workers", "2")


@pytest.fixture
def fake(monkeypatch):
    """A Ray of this process alone."""
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # which an actor sets in its process
        monkeypatch.setenv(name, "1")
    return ray


@pytest.fixture
def home(tmp_path):
    """The environment of a user whose home nobody has written into yet; the test is left out where Ray is missing."""
    if find_spec("ray") is None:
        pytest.skip("needs the package ray: pip install 'lrpcli[ray]'")
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home")}


@pytest.mark.slow
def test_results_are_those_of_one_process_and_nothing_else_is_written_or_said(tmp_path, inline, home):
    source, calm, first = inline
    out = tmp_path / "out"
    result = process("explain", *TINY_OPTIONS, source, out, *SMALL, *RAY, "--json", env=environment(**home))
    assert result.returncode == first.returncode == 1, result.stderr
    assert tree(out) == tree(calm) and shown(result) == shown(first) and leftovers(out) == []
    assert row_journals(out) == [f"journal-{n}-of-5.jsonl" for n in range(1, 6)]
    assert len(result.stderr.splitlines()) == 2, result.stderr
    assert list(Path(home["HOME"]).rglob("*")) == []
    (source / "5bad.png").unlink()
    try:
        done = process("explain", *TINY_OPTIONS, source, out, *SMALL, *RAY, env=environment(**home))
        env = environment(path=[without_torch(tmp_path / "code")], **home)
        again = process("explain", *TINY_OPTIONS, source, out, *SMALL, *RAY, env=env)
        assert done.returncode == again.returncode == 0 and again.stdout == done.stdout
    finally:
        (source / "5bad.png").write_bytes(b"no image")


@pytest.mark.slow
def test_a_worker_that_is_killed_and_an_image_that_kills_them(tmp_path, inline, home):
    source, calm, _ = inline
    out = tmp_path / "out"
    slow = photo(source / "slow.png", 50)
    env = environment(path=[hostile_decoder(tmp_path / "code")], SLOW="2", **home)
    try:
        running = started(source, out, *SMALL, *RAY, env=env)
        wait_for(lambda: finished(out))
        os.kill(nets_of_ray()[0], signal.SIGKILL)
        running.communicate(timeout=600)
    finally:
        slow.unlink()
    found = tree(out)
    assert running.returncode == 1 and {name: found[name] for name in tree(calm)} == tree(calm)
    deadly = poison(source)
    env = environment(path=[hostile_writer(tmp_path / "deadly")], **home)
    try:
        result = process("explain", *TINY_OPTIONS, source, tmp_path / "other", *SMALL, *RAY, "--json", env=env)
    finally:
        deadly.unlink()
    failed = [row["error"]["kind"] for row in shown(result) if row.get("status") == "failed"]
    assert result.returncode == 1 and failed == ["decode", "crashed"]
    assert tree(tmp_path / "other").keys() == tree(calm).keys()


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_leaves_no_worker(tmp_path, inline, home):
    source, calm, _ = inline
    out = tmp_path / "out"
    running = started(source, out, *SMALL, *RAY, env=environment(**home))
    wait_for(lambda: finished(out))
    killed(running)
    wait_for(lambda: not nets_of_ray())
    before = finished(out)
    again = process("explain", *TINY_OPTIONS, source, out, *SMALL, *RAY, "--json", env=environment(**home))
    assert again.returncode == 1 and tree(out) == tree(calm)
    assert [row["status"] for row in shown(again)[:-1]].count("skipped") == len(before)


def test_without_the_package_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out", *RAY)
    assert result.returncode == 2 and not (tmp_path / "out").exists()
    assert result.stderr.decode().splitlines() == [
        "Error: --engine ray needs the package ray, which is missing. Install it with: pip install 'lrpcli[ray]'."
    ]


def test_an_older_version_is_refused(tmp_path, monkeypatch):
    old = ModuleType("ray")
    old.__version__ = "2.9.3"
    monkeypatch.setitem(sys.modules, "ray", old)
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out", *RAY)
    assert result.returncode == 2 and b"needs Ray 2.60 or later, and 2.9.3 is installed" in result.stderr


@pytest.mark.slow
def test_actors_do_what_processes_do(tmp_path, inline, fake):
    """By threads that stand for actors, so that it is known without a cluster, too."""
    source, calm, first = inline
    out = tmp_path / "out"
    result = explain(source, out, *SMALL, *RAY, "--json")
    assert result.returncode == 1 and tree(out) == tree(calm) and shown(result) == shown(first)
    assert len(fake.actors) == 2 and fake.ended
    assert fake.options == [{"num_cpus": 2, "num_gpus": 0, "max_restarts": -1, "max_task_retries": -1,
                             "max_concurrency": 2}]  # fmt: skip
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    measured = evaluate(source, "-o", tmp_path / "measured", *RAY)
    alone = evaluate(source, "-o", tmp_path / "alone")
    assert measured.exit_code == 1 and measured.stdout == alone.stdout
    assert tree(tmp_path / "measured") == tree(tmp_path / "alone")


@pytest.mark.slow
def test_what_loading_refuses_is_said_by_the_command(tmp_path, fake):
    line = ("--target", "unknown", photo(tmp_path / "a.png"), tmp_path / "out")
    assert explain(*line, *RAY).stderr == explain(*line).stderr and fake.ended


@pytest.mark.parametrize(
    ("device", "resources", "message"),
    [
        ("cuda", {}, "needs a GPU, and the Ray cluster has none"),
        ("cuda:1", {"GPU": 2.0}, "names a GPU of one machine"),
    ],
)
def test_devices_that_a_cluster_does_not_have(tmp_path, monkeypatch, device, resources, message):
    monkeypatch.setitem(sys.modules, "ray", FakeRay(**resources))
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out", *RAY, "--device", device)
    assert result.returncode == 2 and message.encode() in result.stderr and not (tmp_path / "out").exists()


def test_a_cluster_that_cannot_be_reached_is_exit_3(tmp_path, monkeypatch):
    class Unreachable(FakeRay):
        def init(self, **options):
            self.started.append(options)
            raise ConnectionError("Could not find any running Ray instance.\nMore about it.")

    ray = Unreachable()
    monkeypatch.setitem(sys.modules, "ray", ray)
    image = photo(tmp_path / "a.png")
    result = explain(image, tmp_path / "out", *RAY, "--ray-address", "auto")
    said = b"Error: The Ray cluster 'auto' cannot be reached: Could not find any running Ray instance.\n"
    assert result.returncode == 3 and result.stderr == said
    assert explain(image, tmp_path / "out", *RAY, env={"RAY_ADDRESS": "head:6379"}).returncode == 3
    assert b"Ray cannot be started" in explain(image, tmp_path / "out", *RAY, env={"RAY_ADDRESS": ""}).stderr
    assert [options["address"] for options in ray.started] == ["auto", "head:6379", "local"]
    assert not Path(ray.started[-1]["_temp_dir"]).exists(), "nothing is left of the cluster of a run"
