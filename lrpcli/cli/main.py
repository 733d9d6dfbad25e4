"""The command group, and what every command ends with: exit codes, one-sentence errors, signals raised again."""

import errno
import io
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import IO, Any

import click

import lrpcli
from lrpcli.cli.compare import compare
from lrpcli.cli.configs import configs
from lrpcli.cli.evaluate import evaluate
from lrpcli.cli.explain import explain
from lrpcli.cli.models import models
from lrpcli.cli.options import VERBOSE
from lrpcli.cli.outside import known
from lrpcli.cli.records_table import table
from lrpcli.cli.report import report
from lrpcli.cli.settings import check_variables, give_variables, with_origin
from lrpcli.cli.signals import Interrupted
from lrpcli.cli.status import status
from lrpcli.cli.system import completion, env
from lrpcli.cli.terminal import flush_output, let_go, note, prepare_streams, say, stop_waiting, unwritable
from lrpcli.cli.tune import tune
from lrpcli.cli.unpack import unpack
from lrpcli.errors import OutputError, UsageError, suggestion
from lrpcli.records.text import one_line

BUG = 3
TEMPORARY, IN_MEMORY = ("/tmp", "/var/tmp", "/usr/tmp"), "/dev/shm"
"""Where Python makes temporary files, beside what variables name and the current folder; and memory, on Linux."""
WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
THREADS = {"OPENBLAS_NUM_THREADS": "1", "GOMP_SPINCOUNT": "10000"}
"""For libraries that are not loaded yet. numpy multiplies only small matrices, so that its threads would be in the way
of torch's; and torch's, waiting for each other, shall soon leave the processor to those that decode and write."""


class _Root(click.Group):
    def main(self, *arguments: Any, **keywords: Any) -> Any:
        """The whole program, also where standard streams are closed or cannot be written."""
        prepare_streams()
        try:
            return super().main(*arguments, **keywords)
        except OSError as error:  # of click's own writing, such as --help
            note(f"Error: {unwritable(error)}")
            sys.exit(OutputError.exit_code)
        finally:
            try:
                flush_output()
            except (OutputError, BrokenPipeError):
                let_go(sys.stdout)  # or the interpreter fails once more, with an exit code of its own

    def make_context(self, *arguments: Any, **keywords: Any) -> click.Context:
        """See click; of options that cannot be used."""
        try:
            return super().make_context(*arguments, **keywords)
        except click.ClickException as error:
            raise _harmless(error) from None

    def invoke(self, context: click.Context) -> Any:
        """Runs a command. click alone would turn Ctrl-C and a closed pipe into exit 1."""
        for name, value in THREADS.items():
            os.environ.setdefault(name, value)
        _offer_temporary_folder()
        try:
            _require_folder()
            check_variables(self, os.environ)
            result = super().invoke(context)
            flush_output()
            return result
        except KeyboardInterrupt:
            _die_by(signal.SIGINT)
        except Interrupted as interrupted:
            _die_by(interrupted.number)
        except BrokenPipeError:
            _die_by(signal.SIGPIPE)
        except click.ClickException as error:
            raise _harmless(error) from None
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            context.exit(_report(context, error))


def _offer_temporary_folder() -> None:
    """Names memory as the place of temporary files where there is none: torch's CUDA build is not loaded without one.

    So it is in a container whose root is read-only.
    """
    places = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")] + [*TEMPORARY, os.curdir]
    if not any(place and _is_writable(place) for place in places) and _is_writable(IN_MEMORY):
        os.environ["TMPDIR"] = IN_MEMORY


def _is_writable(folder: str) -> bool:
    return Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _require_folder() -> None:
    """UsageError if the current folder was removed: relative paths mean nothing there, and libraries break."""
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(f"The current folder cannot be used: {error.strerror}. Change to another one.") from error


def _report(context: click.Context, error: Exception) -> int:
    """One sentence on stderr, the traceback only with -vv; the exit code."""
    if context.meta.get(VERBOSE, 0) >= 2:
        note("".join(traceback.format_exception(error)).rstrip())
    meant = _of_output(error) or known(error)
    if meant is None:
        reason = f"Unexpected {type(error).__name__}: {error}"
        note(one_line(f"Error: {reason}. This is a bug; run again with -vv and report what it prints."))
        return BUG
    note(one_line(f"Error: {meant}"))
    return meant.exit_code


def _of_output(error: Exception) -> OutputError | None:
    """The error of writing to standard output, where click writes; errors of files have their names."""
    if isinstance(error, OSError) and error.errno in WRITING and error.filename is None:
        return unwritable(error)
    return None


def _harmless(error: click.ClickException) -> click.ClickException:
    """The error with where its value came from, and with everything in it escaped that may come from a file's name."""
    if isinstance(error, click.BadParameter):
        error = with_origin(error)
    if not isinstance(error, click.exceptions.NoArgsIsHelpError):  # which is the help of a group
        error = click.UsageError(one_line(error.format_message()), getattr(error, "ctx", None))
    text = io.StringIO()
    error.show(text)
    return _Refused(text.getvalue().rstrip())


class _Refused(click.ClickException):
    """Shown also where standard error cannot be written, which click would take for an error of its own."""

    exit_code = UsageError.exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        """See click."""
        note(self.message)


def _die_by(number: signal.Signals) -> None:
    """Ends by the signal itself, so that the shell sees it and stops its loop too."""
    stop_waiting()
    let_go(sys.stdout)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(lrpcli.__version__, package_name="lrpcli", message="lrp %(version)s")
def main() -> None:
    """Shows what an image classifier saw, by layer-wise relevance propagation.

    \b
    lrp explain --model caffenet photos/ out/
    """  # noqa: D301  (click reads the escape)


@main.command("help")
@click.argument("command", nargs=-1, shell_complete=lambda context, parameter, typed: _commands(context, typed))
@click.pass_context
def help_(context: click.Context, command: tuple[str, ...]) -> None:
    """Show the help of a command, as --help does: lrp help models show."""
    group, shown = context.find_root(), context.find_root().command
    for name in command:
        if not isinstance(shown, click.Group):
            raise UsageError(f"{group.command_path!r} has no commands of its own, such as {name!r}.")
        found = shown.get_command(group, name)
        if found is None:
            known = group.command_path
            raise UsageError(f"There is no command {f'{known} {name}'!r}.{suggestion(name, shown.commands)} "
                             f"`{known} --help` lists all.")  # fmt: skip
        group, shown = click.Context(found, parent=group, info_name=name), found
    say(shown.get_help(group))


def _commands(context: click.Context, typed: str) -> list[str]:
    """The commands that `lrp help` takes next, for a shell that completes it."""
    shown = context.find_root().command
    for name in context.params.get("command") or ():
        shown = shown.commands.get(name, shown) if isinstance(shown, click.Group) else shown
    return [name for name in shown.commands if name.startswith(typed)] if isinstance(shown, click.Group) else []


for command in (explain, compare, report, evaluate, tune, table, unpack, status, configs, models, env, completion):
    main.add_command(command)
give_variables(main)
