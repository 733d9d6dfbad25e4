"""Where the command must run: read-only roots, users without a home, closed streams, small limits, odd locales."""

import os
import resource
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.photos import folder_of_photos, photo
from tests.resilience.runs import NOBODY, TINY_OPTIONS, command, environment, leftovers, lrp, require_whole

pytestmark = pytest.mark.slow
EVALUATION = ("--steps", "2", "--order", "morf", "--control", "none")
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=+dac_read_search",
          "--ambient-caps=+dac_read_search"]  # fmt: skip
"""Another user, who may read this one's files and has no entry in the list of users."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with photos in it, in which anybody may write."""
    folder_of_photos(tmp_path / "in", 2)
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explaining(*arguments):
    return command("explain", *TINY_OPTIONS, *(arguments or ("in", "out")))


def evaluating():
    return command("evaluate", *TINY_OPTIONS, "in", "-o", "out", *EVALUATION)


def figures():
    return explaining("--style", "figure", "--picture-format", "pdf", "in", "out")


WORK = pytest.mark.parametrize("work", [explaining, figures, evaluating], ids=["explain", "figures", "evaluate"])


def as_nobody(line):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become somebody else")
    return [*AS_NOBODY, *line]


def run(line, *, limits=(), env=None, shell="", **keywords):
    """A finished process under limits, or within a shell's redirections."""

    def limit():
        for kind, number in limits:
            resource.setrlimit(kind, (number, number))

    line = ["bash", "-c", f"{shlex.join(line)} {shell}"] if shell else line
    return subprocess.run(
        line, check=False, timeout=300, env=env or environment(), preexec_fn=limit,
        **{"capture_output": True, **keywords},
    )  # fmt: skip


def require_sentence(result, code, *texts):
    errors = result.stderr.decode()
    assert result.returncode == code, errors
    assert errors.startswith("Error: ") and errors.count("\n") == 1 and "bug" not in errors, errors
    assert all(text in errors for text in texts), errors


def require_silent_success(result):
    """Nothing on standard error but the summary."""
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(b"\n") == 1 and b"2 images: 2 " in result.stderr, result.stderr
    require_whole("out")


@WORK
def test_a_read_only_root_with_only_the_output_writable(place, work):
    (place / "out").mkdir()
    mounts = "mount --bind out out; mount -o bind,ro / /; mount -o remount,bind,ro /"
    others = "for folder in /tmp /var/tmp /dev/shm; do mount -o remount,bind,ro $folder 2>/dev/null; done"
    tried = subprocess.run(["unshare", "-m", "bash", "-c", f"{mounts}; ! touch left"], check=False, capture_output=True)
    if shutil.which("unshare") is None or tried.returncode != 0:
        pytest.skip("nothing can be mounted here")
    script = f"{mounts}; {others}; cd {shlex.quote(str(place))}; {shlex.join(work())}"
    require_silent_success(run(["unshare", "-m", "bash", "-c", script]))
    assert [path.name for path in (place / "out").glob(".*")] == [".lrp"] and leftovers("out") == []


@WORK
def test_a_user_without_home_or_entry(place, work):
    env = {name: value for name, value in environment().items() if name not in ("HOME", "USER", "LOGNAME")}
    require_silent_success(run(as_nobody(work()), env=env))


@pytest.mark.parametrize("line", [["models", "list"], ["models", "show", "caffenet"], ["env"], ["configs", "list"]])
def test_what_needs_no_cache_asks_for_no_home(place, line):
    env = {name: value for name, value in environment().items() if name not in ("HOME", "USER", "LOGNAME")}
    result = run(as_nobody(command(*line)), env=env)
    assert result.returncode == 0 and result.stderr == b""
    require_sentence(run(as_nobody(command("models", "path")), env=env), 3, "LRP_CACHE_DIR")
    require_sentence(run(as_nobody(command("models", "fetch", "caffenet")), env=env), 3, "LRP_CACHE_DIR")


@pytest.mark.parametrize("arguments", [("-", "out"), ("--files-from", "-", "out")])
def test_a_closed_standard_input_that_is_named(place, arguments):
    require_sentence(run(explaining(*arguments), shell="<&-"), 2, "Standard input is closed")


@pytest.mark.parametrize("shell", ["<&- 2>&-", "<&- >&- 2>&-", ">&-"])
def test_closed_streams_are_nobodys_files(place, shell):
    """What libraries print must not get into the first file that is opened."""
    result = run(explaining(), shell=shell)
    assert result.returncode == 0, result.stderr
    require_whole("out")


def test_standard_error_that_cannot_be_written(place):
    result = run(explaining(), shell="2>/dev/full")
    assert result.returncode == 0 and result.stdout
    require_whole("out")


def test_standard_error_that_cannot_be_written_keeps_the_code():
    for line, code in ((["explain", "--bad"], 2), (["status", "absent"], 2), (["models", "fetch", "cifar10-full"], 3)):
        assert run(command(*line), shell="2>/dev/full").returncode == code


@WORK
def test_few_open_files(place, work):
    require_silent_success(run(work(), limits=[(resource.RLIMIT_NOFILE, 64)]))


def test_small_files_that_are_large_enough(place):
    """The limit is for this command's files; what the processes that decode may print fits below it."""
    require_silent_success(run(as_nobody(explaining()), limits=[(resource.RLIMIT_FSIZE, 512 * 1024)]))


@pytest.mark.parametrize("size", [0, 1024])
@WORK
def test_files_that_may_not_get_large_enough(place, work, size):
    require_sentence(run(as_nobody(work()), limits=[(resource.RLIMIT_FSIZE, size)]), 3, "File too large")


@pytest.mark.parametrize("size", [300, 1000, 2000])
def test_too_small_an_address_space(place, size):
    """torch maps gigabytes; where it cannot be loaded, a sentence says so."""
    limit = (resource.RLIMIT_AS, size << 20)
    result = run(explaining(), limits=[limit])
    if result.returncode != 0:
        require_sentence(result, 3, "memory")


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_threads(place, count):
    limit = (resource.RLIMIT_NPROC, count)
    require_sentence(run(as_nobody(explaining()), limits=[limit]), 3, "can be started")


def test_a_current_folder_that_is_gone(place):
    line = shlex.join(explaining(str(place / "in"), str(place / "out")))
    result = subprocess.run(["bash", "-c", f"mkdir gone; cd gone; rmdir ../gone; {line}"], capture_output=True,
                            env=environment(), check=False)  # fmt: skip
    require_sentence(result, 2, "The current folder cannot be used", "Change to another one")


def test_no_folder_for_temporary_files(place):
    require_silent_success(run(evaluating(), env=environment(TMPDIR="/nonexistent")))


LOCALES = [{"LC_ALL": "C"}, {"LANG": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
           {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"}]  # fmt: skip


@pytest.mark.parametrize("locale", LOCALES, ids=lambda locale: " ".join(locale.values()))
def test_any_locale_with_any_name(place, locale):
    photo(place / "in" / "ü\u4e16.png")
    (place / "in" / "é.png").write_bytes(b"no image")
    names = ("LANG", "LC_ALL", "LC_CTYPE")
    env = {name: value for name, value in environment().items() if name not in names} | locale
    for _ in range(2):  # anew, and from the journal
        result = run(explaining(), env=env)
        assert result.returncode == 1, result.stderr
        assert "out/ü\u4e16.png.png".encode() in result.stdout.splitlines()
        assert b"Traceback" not in result.stderr and b"decode: " in result.stderr
    assert run(explaining("in", "out", "--json"), env=env).returncode == 1
    assert b"failed   1" in run(command("status", "out"), env=env).stdout


def test_a_journal_with_names_that_the_locale_cannot_write(place):
    photo(place / "in" / "ü.png")
    assert run(explaining()).returncode == 0
    env = environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    result = run(explaining(), env=env)
    if result.returncode != 0:
        require_sentence(result, 2, "Set LC_ALL=C.UTF-8")


@pytest.mark.parametrize("columns", ["1", "20"])
def test_a_narrow_terminal(place, columns):
    env = environment(COLUMNS=columns, TERM="dumb")
    for line in (["models", "list"], ["explain", "--help"], ["configs", "list"]):
        assert run(command(*line), env=env).returncode == 0
    require_silent_success(run(evaluating(), env=env))


@pytest.mark.parametrize("work", [figures, evaluating])
@pytest.mark.parametrize("kind", ["pipe", "no text", "formulas by LaTeX"])
def test_matplotlib_reads_nothing_in_the_current_folder(place, kind, work):
    if kind == "pipe":
        os.mkfifo("matplotlibrc")
    else:
        (place / "matplotlibrc").write_bytes(b"\xff\xfe" if kind == "no text" else b"text.usetex: True\n")
    require_silent_success(run(work()))


KUBERNETES = ("LRP_SERVICE_HOST", "LRP_SERVICE_PORT", "LRP_SERVICE_PORT_HTTP", "LRP_PORT", "LRP_PORT_80_TCP",
              "LRP_PORT_80_TCP_ADDR", "LRP_PORT_80_TCP_PORT", "LRP_PORT_80_TCP_PROTO", "LRP_PORT_53_UDP",
              "LRP_WEB_SERVICE_HOST", "LRP_WEB_PORT_8080_TCP_ADDR")  # fmt: skip


def test_variables_that_kubernetes_sets_for_a_service_called_lrp_are_no_settings():
    values = dict.fromkeys(KUBERNETES, "tcp://10.0.0.1:80")
    assert lrp("configs", "list", env=values).exit_code == 0
    assert "LRP_" not in lrp("env", "--json", env=values).stdout
    for misspelt in ("LRP_PORTS", "LRP_SERVICE", "LRP_STYLE_", "LRP_PORT_80", "LRP_OUTPORT"):
        result = lrp("configs", "list", env=values | {misspelt: "1"})
        assert result.exit_code == 2 and f"{misspelt} belongs to no option" in result.stderr
    assert "Did you mean 'LRP_STYLE'?" in lrp("configs", "list", env={"LRP_STILE": "1"}).stderr


SMALL = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "large": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 30),
    "utf-16": lambda path: Path(path).write_text("style = 'contour'", encoding="utf-16"),
    "absent": lambda path: None,
}


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("option", ["--settings", "--config", "--boxes"])
def test_files_of_settings_that_are_none(place, kind, option):
    SMALL[kind]("file.toml")
    work = evaluating() if option == "--boxes" else explaining()
    result = run([*work, option, "file.toml"])
    require_sentence(result, 2, "'file.toml'")


def test_the_mark_of_utf_8_before_settings_and_configs(place):
    (place / "file.toml").write_bytes(b'\xef\xbb\xbfstyle = "contour"\n')
    assert "file.toml" in lrp("explain", "--settings", "file.toml", "--show-settings").stdout
    (place / "own.toml").write_bytes(b'\xef\xbb\xbf[kind]\nlinear = "epsilon"\n')
    assert lrp("configs", "check", "own.toml").exit_code == 0
