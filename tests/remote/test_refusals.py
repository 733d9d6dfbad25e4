"""Every command and option that takes paths says by one sentence where a URL is no use to it."""

import click
import pytest

import lrpcli
from lrpcli.cli import main
from lrpcli.cli.options import PATHS, PlacePath
from lrpcli.errors import UsageError
from lrpcli.models import load_model
from tests.photos import folder_of_photos, photo
from tests.resilience.runs import TINY_OPTIONS, explain, lrp

URL = "s3://me:secret@bucket/x.toml"
TAKEN = {("explain", "paths"), ("explain", "out"), ("explain", "base"), ("evaluate", "base"), ("compare", "base"),
         ("tune", "base"), ("status", "output"), ("table", "output")}  # fmt: skip
"""Parameters of commands that may be URLs; of --base some commands say that no input lies below it."""


def parameters(group, *names):
    """Every parameter of every command that names paths, with the words of the command."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from parameters(command, *names, name)
        else:
            for parameter in command.params:
                if any(word in str(parameter.metavar) for word in PATHS):
                    yield (*names, name), parameter


FOUND = [(words, parameter) for words, parameter in parameters(main) if parameter.name != "mirror"]


def test_the_parameters_are_those_that_are_known():
    urls = {(words[-1], parameter.name) for words, parameter in FOUND if isinstance(parameter.type, PlacePath)}
    assert urls == TAKEN and len(FOUND) > 40


@pytest.mark.parametrize(
    ("words", "parameter"),
    [(words, parameter) for words, parameter in FOUND if (words[-1], parameter.name) not in TAKEN],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value.name,
)
def test_a_url_where_a_path_is_needed_is_refused(words, parameter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if isinstance(parameter, click.Option):
        given = [*(["composite"] if words == ("configs", "show") else []), parameter.opts[-1], URL]
    else:  # FOLDER of lrp unpack comes second
        given = [*(["x"] if parameter.name == "folder" else []), URL]
    result = lrp(*words, *given)
    assert result.exit_code == 2 and "'s3://bucket/x.toml' is a URL, and a file or folder of this" in result.output
    assert "secret" not in result.output and result.output.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_the_same_holds_for_variables_and_settings_files(tmp_path):
    result = lrp("explain", "in", "out", env={"LRP_WEIGHTS": URL})
    assert result.exit_code == 2 and "--weights 's3://bucket/x.toml' is a URL" in result.output
    (tmp_path / "own.toml").write_text(f'labels = "{URL}"')
    result = lrp("explain", "in", "out", "--settings", tmp_path / "own.toml")
    assert result.exit_code == 2 and "--labels 's3://bucket/x.toml' is a URL" in result.output


def test_settings_are_shown_without_passwords(tmp_path):
    result = lrp("explain", "in", "--out", "memory://me:secret@x/out", "--show-settings")
    assert result.exit_code == 0 and "secret" not in result.output and "memory://x/out" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pack", "tar"), "--pack tar writes on and on into files, and 'memory://x/out' takes whole objects."),
        (("--report",), "--report makes a page in a folder of this machine, and 'memory://x/out' is a URL."),
        (
            ("--engine", "processes"),
            "The URL 'memory://x/out' lies in the memory of this process, and those of --engine",
        ),
        (("--engine", "ray"), "The URL 'memory://x/out' lies in the memory of this process, and those of --engine ray"),
    ],
)
def test_what_needs_a_folder_is_refused_below_a_url(options, message, tmp_path):
    pytest.importorskip("fsspec")
    pytest.importorskip("pyarrow")
    result = explain(photo(tmp_path / "a.png"), "memory://x/out", *options)
    assert result.returncode == 2 and message in result.stderr.decode() and result.stderr.count(b"\n") == 1


@pytest.mark.parametrize("words", [("compare", "--target", "top2"), ("evaluate",), ("tune",)])
def test_lists_of_other_commands_name_no_urls(words, tmp_path):
    (tmp_path / "list").write_text("memory://in/a.png\n")
    result = lrp(*words, *TINY_OPTIONS, "--files-from", tmp_path / "list", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "'memory://in/a.png' is a URL" in result.output, result.output


def test_programs_are_refused_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="The image 's3://bucket/a.png' is a URL"):
        lrpcli.explain("s3://bucket/a.png", "cifar10")
    result = lrpcli.explain(str(photo(tmp_path / "a.png")), "cifar10")
    with pytest.raises(UsageError, match="The file 's3://bucket/a.npy' is a URL"):
        result.save("s3://bucket/a.npy")
    for arguments in ({"model": "s3://bucket/net.onnx"}, {"model": "caffenet", "weights": "s3://bucket/x.caffemodel"}):
        with pytest.raises(UsageError, match="The file of the (model|weights), 's3://bucket/.*' is a URL"):
            load_model(**arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_called_like_a_protocol_is_still_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of_photos(tmp_path / "s3:" / "in", 1)
    assert explain("./s3:/in", "./s3:/out").returncode == 0
    assert lrp("status", "s3:/out").exit_code == 0
