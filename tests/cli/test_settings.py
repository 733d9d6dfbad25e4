"""Options from flags, variables and files; lrp env and lrp completion."""

import json
import subprocess
import sys

import pytest

from tests.photos import photo
from tests.resilience.runs import environment, explain, lrp, process


def shown(*arguments, env=None):
    result = lrp("explain", "--show-settings", "--json", *arguments, env=env)
    assert result.exit_code == 0, result.output
    return {row["option"]: (row["value"], row["source"]) for row in json.loads(result.stdout)}


def test_flags_come_before_variables_before_the_file_before_defaults(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('batch-size = 3\nstyle = "contour"\nmap_space = "image"\nalpha = 0.5\n')
    found = shown("--settings", file, "--style", "heatmap", env={"LRP_STYLE": "overlay", "LRP_BATCH_SIZE": "5"})
    assert found["style"] == ("heatmap", "flag")
    assert found["batch-size"] == (5, "LRP_BATCH_SIZE")
    assert found["map-space"] == ("image", str(file)) and found["alpha"] == (0.5, str(file))
    assert found["cmap"] == ("bwr", "default")
    assert shown(env={"LRP_SETTINGS": str(file)})["batch-size"] == (3, str(file))


def test_values_of_every_type(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('target = ["tabby", "3"]\nmean = [1, 2, 3]\nfollow = true\nstd = "2,2,2"\njobs = 2\n'
                    'allow-format = ["PNG", "GIF"]\nscale = 0.5\n')  # fmt: skip
    found = shown("--settings", file)
    assert found["target"][0] == ["tabby", "3"] and found["mean"][0] == "1,2,3" and found["std"][0] == [2.0, 2.0, 2.0]
    assert found["follow"][0] is True and found["allow-format"][0] == ["PNG", "GIF"] and found["scale"][0] == "0.5"
    found = shown(env={"LRP_TARGET": "tabby cat,3", "LRP_FOLLOW": "1", "LRP_JSON": "1"})
    assert found["target"][0] == ["tabby cat", "3"] and found["follow"] == (True, "LRP_FOLLOW")


def test_settings_are_used_and_shown_as_a_table(tmp_path):
    path = photo(tmp_path / "a.png")
    file = tmp_path / "settings.toml"
    file.write_text(f'save = "heatmap"\nout = "{tmp_path / "out"}"\n')
    result = explain(path, "--settings", file)
    assert result.stdout.decode() == f"{tmp_path}/out/a.png.heatmap.png\n"
    table = lrp("explain", "--show-settings", "--settings", file).stdout.splitlines()
    assert any(line.split() == ["save", "heatmap", str(file)] for line in table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('stile = "contour"', "has the key 'stile', which is no option. Did you mean 'style'?"),
        ("[explain]\nstyle = 'contour'", "has the key 'explain', which is no option"),
        ("style = [['contour']]", "must be a value or a list of values"),
        ("follow = 'yes'", "must be true or false, not 'yes'"),
        ("style = true", "must not be true or false"),
        ("batch-size = 0", "batch-size"),
        ("jobs = " + "9" * 5000, "is not valid TOML"),
        ("jobs = " + "9" * 50, "jobs"),
        ("max-pixels = 1e400", "max-pixels"),
        ("alpha = nan", "alpha"),
        ("timeout = inf", "timeout"),
        ("a = " + "[" * 50_000, "settings.toml' is n"),  # nested too deeply, or not valid for it
        ("style = ", "is not valid TOML"),
        ("json = true", "which is no option"),
    ],
)
def test_settings_that_cannot_be_used_are_exit_2(tmp_path, text, message):
    file = tmp_path / "settings.toml"
    file.write_text(text)
    result = lrp("explain", "--settings", file, "in", "out")
    assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.stderr, result.stderr


def test_a_value_that_cannot_be_used_says_where_it_came_from(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("batch-size = 0")
    assert f"(from {file})" in lrp("explain", "--settings", file, "in", "out").stderr
    assert "(from LRP_BATCH_SIZE)" in lrp("explain", "in", "out", env={"LRP_BATCH_SIZE": "x"}).stderr
    assert "from" not in lrp("explain", "in", "out", "-b", "x").stderr


def test_unknown_variables_and_missing_files_are_exit_2(tmp_path):
    result = lrp("explain", "in", "out", env={"LRP_STILE": "contour"})
    assert result.exit_code == 2 and "LRP_STILE belongs to no option. Did you mean 'LRP_STYLE'?" in result.stderr
    assert lrp("models", "path", env={"LRP_OFLINE": "1"}).exit_code == 2
    result = lrp("explain", "--settings", tmp_path / "absent.toml", "in", "out")
    assert result.exit_code == 2 and "cannot be read: No such file" in result.stderr


def test_nothing_is_read_from_the_current_folder(tmp_path):
    for name in ("lrp.toml", "settings.toml", ".lrp.toml", "pyproject.toml"):
        (tmp_path / name).write_text('style = "contour"\n[tool.lrp]\nstyle = "contour"\n')
    result = process("explain", "--show-settings", "--json", cwd=tmp_path)
    style = next(row for row in json.loads(result.stdout) if row["option"] == "style")
    assert style == {"option": "style", "value": "overlay", "source": "default"}


def test_env_tells_versions_and_variables():
    facts = json.loads(lrp("env", "--json", env={"LRP_OFFLINE": "1"}).stdout)
    assert facts["offline"] is True and facts["variables"] == {"LRP_OFFLINE": "1"}
    assert {"lrp", "python", "torch", "pillow", "cpus", "cuda", "cache"} <= set(facts)
    assert {"onnx", "timm", "huggingface_hub"} <= set(facts)
    assert any(line.split()[:2] == ["torch", facts["torch"]] for line in lrp("env").stdout.splitlines())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    result = lrp("completion", shell)
    assert result.exit_code == 0 and "_LRP_COMPLETE" in result.stdout


@pytest.mark.parametrize("line", ["lrp explain --tim", "lrp explain --config epsilon --config beta-0 --tim"])
def test_completion_completes(line):
    """Also a line that will be refused."""
    env = environment(_LRP_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(line.count(" ")))
    code = "from lrpcli.cli import main; main(prog_name='lrp')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, check=False)
    assert b"--timeout" in result.stdout, result
