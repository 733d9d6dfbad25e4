"""The command group, and what every command ends with: exit codes, one-sentence errors, signals raised again."""

import errno
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

import click

import lrpcli
from lrpcli.cli.configs import configs
from lrpcli.cli.evaluate import evaluate
from lrpcli.cli.explain import explain
from lrpcli.cli.models import models
from lrpcli.cli.options import VERBOSE
from lrpcli.cli.settings import check_variables, give_variables, with_origin
from lrpcli.cli.signals import Interrupted
from lrpcli.cli.status import status
from lrpcli.cli.system import completion, env
from lrpcli.errors import LrpError, OutputError
from lrpcli.records.text import printable

BUG = 3
WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
THREADS = {"OPENBLAS_NUM_THREADS": "1", "GOMP_SPINCOUNT": "10000"}
"""For libraries that are not loaded yet. numpy multiplies only small matrices, so that its threads would be in the way
of torch's; and torch's, waiting for each other, shall soon leave the processor to those that decode and write."""


class _Root(click.Group):
    def main(self, *arguments: Any, **keywords: Any) -> Any:
        """The whole program, also where standard output is closed or cannot be written."""
        sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
        try:
            return super().main(*arguments, **keywords)
        except OSError as error:  # of click's own writing, such as --help
            click.echo(f"Error: {_known(error)}", err=True)
            sys.exit(OutputError.exit_code)
        finally:
            try:
                sys.stdout.flush()
            except OSError:
                _let_go_of_output()  # or the interpreter fails once more, with an exit code of its own

    def invoke(self, context: click.Context) -> Any:
        """Runs a command. click alone would turn Ctrl-C and a closed pipe into exit 1."""
        for name, value in THREADS.items():
            os.environ.setdefault(name, value)
        try:
            check_variables(self, os.environ)
            result = super().invoke(context)
            sys.stdout.flush()
            return result
        except LrpError as error:
            _report(context, error)
            context.exit(error.exit_code)
        except KeyboardInterrupt:
            _die_by(signal.SIGINT)
        except Interrupted as interrupted:
            _die_by(interrupted.number)
        except BrokenPipeError:
            _die_by(signal.SIGPIPE)
        except click.BadParameter as error:
            raise with_origin(error) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            _report(context, _known(error))
            context.exit(BUG)


def _report(context: click.Context, error: Exception) -> None:
    """One sentence on stderr; the traceback only with -vv."""
    if context.meta.get(VERBOSE, 0) >= 2:
        traceback.print_exception(error)
    if isinstance(error, LrpError):
        text = str(error)
    else:
        text = (
            f"Unexpected {type(error).__name__}: {error}. This is a bug; run again with -vv and report what it prints."
        )
    click.echo(f"Error: {printable(text)}", err=True)


def _known(error: Exception) -> Exception:
    """An error of writing to standard output as such; files are written elsewhere, and their errors known there."""
    if isinstance(error, OSError) and error.errno in WRITING and error.filename is None:
        return OutputError(f"Standard output cannot be written: {error.strerror}.")
    return error


def _nowhere() -> TextIO:
    """What a stream that the caller closed becomes."""
    return Path(os.devnull).open("w")


def _let_go_of_output() -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())


def _die_by(number: signal.Signals) -> None:
    """Ends by the signal itself, so that the shell sees it and stops its loop too."""
    _let_go_of_output()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(lrpcli.__version__, package_name="lrpcli", message="lrp %(version)s")
def main() -> None:
    """Shows what an image classifier saw, by layer-wise relevance propagation.

    \b
    lrp explain --model caffenet photos/ out/
    """  # noqa: D301  (click reads the escape)


for command in (explain, evaluate, status, configs, models, env, completion):
    main.add_command(command)
give_variables(main)
