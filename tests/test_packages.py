"""sdist and wheel: two builds give the same bytes, hold what they should, and what differs or is missing is named."""

import io
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import lrpcli

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def script():
    """The functions of .ci/packages.py; needs the tools of the group dev."""
    pytest.importorskip("hatchling", reason="needs hatchling: pip install --group dev")
    return runpy.run_path(str(ROOT / ".ci" / "packages.py"))


def wheel(path, **files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return path


def sdist(path, *names):
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"lrpcli-1/{name}"), io.BytesIO())
    return path


@pytest.mark.slow
def test_two_builds_give_the_same_bytes_and_hold_what_they_should(script, tmp_path):
    command = [sys.executable, ROOT / ".ci" / "packages.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name = f"lrpcli-{lrpcli.__version__}"
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.tar.gz", f"{name}-py3-none-any.whl"}
    installed = script["contents"](tmp_path / f"{name}-py3-none-any.whl")
    assert f"{name}.data/data/share/man/man1/lrp.1" in installed
    assert {f"{name}.dist-info/licenses/{text}" for text in ("LICENSE", "NOTICE")} <= installed.keys()
    weights = ROOT / "lrpcli" / "models" / "zoo" / "bundled" / "cifar10.safetensors"
    assert installed["lrpcli/models/zoo/bundled/cifar10.safetensors"] == weights.read_bytes()


def test_packages_that_differ_are_named_with_their_files(script, tmp_path):
    one = wheel(tmp_path / "a-1-py3-none-any.whl", a="1", b="2")
    (tmp_path / "2").mkdir()
    other = wheel(tmp_path / "2" / one.name, a="1", b="3", c="4")
    assert script["difference"](one, one) is None
    assert script["difference"](one, other).endswith("differ in b, c.")
    packed = tmp_path / "2" / "again" / one.name
    packed.parent.mkdir()
    packed.write_bytes(one.read_bytes() + b"\0")
    assert script["difference"](one, packed).endswith("differ in how they are packed.")


def test_files_that_a_package_lacks_or_should_not_hold_are_named(script, tmp_path):
    names = ["README.md", "lrpcli/a.py", "configs/b.toml", "man/lrp.1"]
    source = sdist(tmp_path / "lrpcli-1.tar.gz", "README.md", "lrpcli/a.py", "configs/b.toml", "PKG-INFO", "out/x.png")
    built = wheel(
        tmp_path / "lrpcli-1-py3-none-any.whl",
        **{"lrpcli__a.py": "", "lrpcli__a.pyc": "", "lrpcli-1.data__data__share__man__man1__lrp.1": "",
           "lrpcli-1.dist-info__RECORD": ""},
    )  # fmt: skip
    assert script["wrong_contents"](source, built, names) == [
        "lrpcli-1.tar.gz holds out/x.png.",
        "lrpcli-1-py3-none-any.whl holds lrpcli/a.pyc.",
        "lrpcli-1.tar.gz lacks man/lrp.1.",
        "lrpcli-1-py3-none-any.whl lacks lrpcli/configs/b.toml.",
    ]


def test_files_that_name_a_folder_of_the_machine_are_named(script, tmp_path):
    built = wheel(tmp_path / "lrpcli-1-py3-none-any.whl", a=f"built in {tmp_path}", b="built")
    (text,) = script["naming"](built, [tmp_path])
    assert "holds a, which" in text


@pytest.fixture(scope="module")
def for_index():
    """What hatch_build.py makes of a page."""
    pytest.importorskip("hatchling", reason="needs hatchling: pip install --group dev")
    return runpy.run_path(str(ROOT / "hatch_build.py"))["for_index"]


PAGE = "![a cat](docs/cat.png) [pages](docs/index.md#all), [`code`](a.md) [paper](https://x.org/a) [here](#top) a[0](b)"


def test_links_of_the_readme_lead_to_the_files_of_the_version(for_index):
    shown = for_index(PAGE, "https://git.example/lrp/", "1.2.3")
    assert "![a cat](https://git.example/lrp/raw/v1.2.3/docs/cat.png)" in shown
    assert "[pages](https://git.example/lrp/blob/v1.2.3/docs/index.md#all), [`code`](https://git.example/lrp/" in shown
    assert "[paper](https://x.org/a) [here](#top)" in shown


def test_links_of_the_readme_are_text_where_the_project_has_no_address(for_index):
    assert for_index(PAGE, "", "1.2.3").startswith(" pages, `code` [paper](https://x.org/a) [here](#top)")


def test_links_to_files_that_an_index_lacks_are_named(script, tmp_path):
    texts = {"lrpcli-1.dist-info__METADATA": "Name: lrpcli\n\n[a](https://x.org) [b](docs/b.md) ![c](c.png)"}
    built = wheel(tmp_path / "lrpcli-1-py3-none-any.whl", **texts)
    assert script["lost_links"](built) == [
        "lrpcli-1-py3-none-any.whl has a readme that links to docs/b.md.",
        "lrpcli-1-py3-none-any.whl has a readme that links to c.png.",
    ]


def test_the_version_is_written_once_and_the_changelog_has_it_or_what_comes_next():
    assert "version" in PYPROJECT["project"]["dynamic"] and re.fullmatch(r"\d+\.\d+\.\d+", lrpcli.__version__)
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in ("Unreleased", lrpcli.__version__)


USES = re.compile(r"^\s*(?:- )?uses: (.*)$", re.MULTILINE)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_every_action_is_pinned_by_the_hash_of_a_commit(path):
    used = USES.findall(path.read_text())
    assert used and [action for action in used if not PINNED.fullmatch(action)] == []


def test_the_release_has_few_rights_and_tries_every_python_that_the_package_names():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which comes with huggingface_hub")
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    jobs = release["jobs"]
    assert release["permissions"] == {} and all("timeout-minutes" in job for job in jobs.values())
    assert {name for name, job in jobs.items() if "id-token" in job["permissions"]} == {"attest", "publish"}
    assert {name for name, job in jobs.items() if job["permissions"].get("contents") == "write"} == {"release"}
    assert jobs["publish"]["environment"] == "pypi" and jobs["publish"]["needs"] == "attest"
    assert set(jobs["attest"]["needs"]) == {"test", "build", "fresh"}
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(PYPROJECT["project"]["classifiers"]), re.MULTILINE)
    assert jobs["fresh"]["strategy"]["matrix"]["python"] == named


def test_the_citation_has_the_tool_and_the_paper():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which comes with huggingface_hub")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["license"] == PYPROJECT["project"]["license"]
    assert citation["authors"] == [{"name": author["name"]} for author in PYPROJECT["project"]["authors"]]
    paper = citation["preferred-citation"]
    listed = " ".join((ROOT / "docs" / "references.md").read_text().split())
    assert paper["title"] in listed and paper["url"] in listed and paper["year"] == 2016
    assert [author["family-names"] for author in paper["authors"]][:2] == ["Binder", "Montavon"]
