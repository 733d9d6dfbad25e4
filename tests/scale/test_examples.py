"""The files in examples/: what batch systems would run of them, with their variables."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lrpcli.pipeline.shard import Shard, parse_shard
from tests.photos import folder_of_photos
from tests.resilience.runs import ROOT, TINY_OPTIONS, environment, explain, lrp

EXAMPLES = ROOT / "examples"
SPY = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
"""


def programs(folder, **scripts):
    """A folder for PATH that comes before all others."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def lrp_script():
    """What starts the project's own lrp."""
    return f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lrpcli "$@"\n'


def status(output):
    return json.loads(lrp("status", output, "--json").stdout)


@pytest.mark.slow
def test_the_tasks_of_a_slurm_array_share_the_images(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 5), tmp_path / "out"
    srun = '#!/bin/sh\nshift\nexec "$@"\n'  # after its one option
    path = programs(tmp_path / "bin", srun=srun, lrp=lrp_script())
    script = EXAMPLES / "slurm_array.sbatch"
    for task in ("0", "1"):
        env = environment(
            PATH=path, PHOTOS=str(source), MAPS=str(out), SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_COUNT="2",
            SLURM_ARRAY_TASK_MIN="0", SLURM_CPUS_PER_TASK="1",
        )  # fmt: skip
        done = subprocess.run(["bash", script, *TINY_OPTIONS], env=env, capture_output=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (out / ".lrp").glob("*.jsonl")) == [
        "journal-1-of-2.jsonl", "journal-2-of-2.jsonl"]  # fmt: skip
    counted = status(out)
    assert (counted["images"], counted["done"], counted["missing"], counted["shards"]) == (5, 5, 0, 2)


def test_a_slurm_script_says_which_folder_is_missing(tmp_path):
    env = environment(PHOTOS="photos")
    refused = subprocess.run(["bash", EXAMPLES / "slurm_array.sbatch"], env=env, capture_output=True, check=False)
    assert refused.returncode != 0 and b"MAPS: names the folder for the maps" in refused.stderr


def test_the_options_of_the_slurm_script_stand_before_its_commands():
    lines = (EXAMPLES / "slurm_array.sbatch").read_text().splitlines()
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert lines[0].startswith("#!") and options and max(options) < first, "sbatch reads none behind the first command"


@pytest.mark.slow
def test_the_indexes_of_a_kubernetes_job_share_the_images(tmp_path):
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the job")
    job = yaml.safe_load((EXAMPLES / "kubernetes_job.yaml").read_text())
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {item["name"]: item["value"] for item in container["env"]}
    assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
    assert int(variables["JOB_COMPLETIONS"]) == spec["completions"] >= spec["parallelism"]
    assert variables["OMP_NUM_THREADS"] == container["resources"]["requests"]["cpu"]
    assert all(isinstance(value, str) for value in variables.values()), "Kubernetes refuses numbers"
    rule = spec["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert rule["containerName"] == container["name"] and rule["values"] == [1, 2]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    indexes = [parse_shard("auto", {**variables, "JOB_COMPLETION_INDEX": str(index)}) for index in (0, 99)]
    assert indexes == [Shard(1, 100), Shard(100, 100)]
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    for index in range(2):
        env = environment(**{**variables, "JOB_COMPLETIONS": "2"}, JOB_COMPLETION_INDEX=str(index))
        places = {"/photos": str(source), "/maps": str(out)}
        words = [places.get(word, word) for word in container["args"]]
        assert words[0] == "explain"
        assert explain(*words[1:], env=env).returncode == 0
    assert status(out)["done"] == 3


def test_parallel_runs_each_shard_once(tmp_path):
    calls = tmp_path / "calls"
    env = environment(PATH=programs(tmp_path / "bin", lrp=SPY, parallel="#!/bin/sh\nexit 1\n"), CALLS=str(calls))
    line = [EXAMPLES / "parallel.sh", "5", "2", "lrp", "explain", "photos of cats/", "maps"]
    assert subprocess.run(line, env=env, check=False, timeout=300).returncode == 0
    found = sorted(calls.read_text().splitlines())
    assert found == [f"explain photos of cats/ maps --shard {number}/5" for number in range(1, 6)]
    refused = subprocess.run([EXAMPLES / "parallel.sh", "5"], capture_output=True, check=False)
    assert refused.returncode == 2 and b"usage: " in refused.stderr


def test_parallel_is_given_the_command_word_by_word(tmp_path):
    stub = '#!/bin/sh\ncase $1 in --version) echo "GNU parallel 20240222";; *) printf "%s\\n" "$@";; esac\n'
    env = environment(PATH=programs(tmp_path / "bin", parallel=stub))
    line = [EXAMPLES / "parallel.sh", "5", "2", "lrp", "explain", "photos of cats/", "maps"]
    given = subprocess.run(line, env=env, check=True, timeout=300, capture_output=True, text=True).stdout.splitlines()
    assert given == ["--will-cite", "--jobs", "2", "--quote", "lrp", "explain", "photos of cats/", "maps", "--shard",
                     "{}/5"]  # fmt: skip


def instructions():
    """The Dockerfile's instructions: name and text, lines that go on put together."""
    text = re.sub(r"\\\n\s*", "", (EXAMPLES / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def test_the_dockerfile_copies_all_that_is_installed_and_starts_lrp_as_any_user():
    found = instructions()
    names = [name for name, _ in found]
    assert names == ["ARG", "FROM", "COPY", "COPY", "COPY", "COPY", "RUN", "USER", "WORKDIR", "ENTRYPOINT", "CMD"]
    copied = {word for name, text in found if name == "COPY" for word in text.split()[:-1]}
    assert all((ROOT / word).exists() for word in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", "hatch_build.py", "README.md", *wheel["packages"], *wheel["force-include"],
              *wheel["shared-data"],
              *project["project"]["license-files"]}  # fmt: skip
    assert needed <= copied
    assert json.loads(dict(found)["ENTRYPOINT"]) == list(project["project"]["scripts"])


@pytest.mark.slow
def test_what_the_dockerfile_runs_installs_a_whole_lrp(tmp_path):
    """There is no builder here: its steps run in a folder of their own, without the packages that lrp depends on."""
    pytest.importorskip("hatchling", reason="building without the network needs hatchling")
    for name, text in instructions():
        if name == "COPY":
            *words, place = text.split()
            target = tmp_path / place.strip("/")
            target.mkdir(parents=True, exist_ok=True)
            for word in words:
                copy = ["cp", "-r", f"{ROOT / word}/." if (ROOT / word).is_dir() else str(ROOT / word), str(target)]
                subprocess.run(copy, check=True)
    (command,) = [text for name, text in instructions() if name == "RUN"]
    words = [sys.executable if word == "python" else word.replace("/src", str(tmp_path / "src"))
             for word in shlex.split(command)]  # fmt: skip
    words += ["--no-deps", "--no-build-isolation", "--target", str(tmp_path / "root"), "--quiet"]
    subprocess.run(words, check=True, timeout=600)
    env = {**environment(), "PYTHONPATH": str(tmp_path / "root")}
    line = [sys.executable, "-m", "lrpcli", "configs", "list"]
    listed = subprocess.run(line, env=env, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=300)
    assert "epsilon-plus" in listed.stdout
    assert Path(tmp_path / "root" / "lrpcli" / "configs").is_dir()
