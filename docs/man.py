"""Writes the manual pages, man/*.1, from the help of the commands: `python docs/man.py`.

With --check it writes nothing, and names the pages that differ from the help (exit 1).
"""

import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from lrpcli import __version__
from lrpcli.cli.main import main as lrp

DOCS = Path(__file__).resolve().parent
MAN = DOCS.parent / "man"
SPECIAL = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})
"""What roff would take for a command of its own, or set as another character than the one to be typed."""
VARIABLES = (
    ("LRP_<OPTION>", "The value of any option, such as LRP_BATCH_SIZE for --batch-size. Flags come before variables."),
    ("LRP_SETTINGS", "A TOML file of options; variables come before it."),
    ("LRP_CACHE_DIR", "Where fetched weights are kept."),
    ("LRP_OFFLINE", "With 1, nothing is fetched."),
)


def roff(text: str) -> str:
    """Text as roff shows it letter by letter; a line may begin with anything."""
    return re.sub(r"^\.", r"\\&.", text.translate(SPECIAL), flags=re.MULTILINE)


def terms(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of what is said of each term."""
    return "".join(f".TP\n{term}\n{roff(text)}\n" for term, text in pairs)


def options_of(context: click.Context) -> str:
    """The options of a command: flags bold, what they take in italics."""
    options = (each for each in context.command.get_params(context) if isinstance(each, click.Option))
    records = filter(None, (option.get_help_record(context) for option in options))
    return terms((flags(names), text) for names, text in records)


def flags(names: str) -> str:
    """Of "-o, --out OUTPUT" the first two in bold, the third in italics."""
    words = (rf"\fB{roff(word)}\fR" if word.startswith("-") else rf"\fI{roff(word)}\fR" for word in names.split())
    return " ".join(words)


def description_of(command: click.Command) -> str:
    """The paragraphs of the help; what stands behind a backspace keeps its lines, as in click."""
    paragraphs = inspect.cleandoc(command.help or "").partition("\f")[0].split("\n\n")
    return ".PP\n".join(
        f".nf\n{roff(text.removeprefix(chr(8)).strip())}\n.fi\n" if text.startswith("\b") else f"{roff(text)}\n"
        for text in paragraphs
    )


def sentence_of(command: click.Command) -> str:
    """The first sentence of the help, whole."""
    return command.get_short_help_str(limit=1000).removesuffix(".")


def usage(context: click.Context) -> str:
    """How a command is called."""
    pieces = context.command.collect_usage_pieces(context)
    return f"\\fB{roff(context.command_path)}\\fR {roff(' '.join(pieces))}\n"


def below(context: click.Context) -> list[click.Context]:
    """The commands of a group, in the order of its help."""
    group = context.command
    if not isinstance(group, click.Group):
        return []
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return [click.Context(each, context, name) for name, each in found.items() if each and not each.hidden]


def subcommand(context: click.Context) -> str:
    """A command of a group, as a part of the group's page."""
    return f".SS {usage(context)}{description_of(context.command)}{options_of(context)}"


def page(context: click.Context, rest: str = "") -> str:
    """The whole page of a command, `rest` before the last section."""
    name = context.command_path.replace(" ", "-")
    parts = [
        f'.TH {roff(name.upper())} 1 "" "lrp {__version__}" "lrp"\n.nh\n.ad l\n',
        f".SH NAME\n{roff(name)} \\- {roff(sentence_of(context.command))}\n",
        f".SH SYNOPSIS\n{usage(context)}",
        f".SH DESCRIPTION\n{description_of(context.command)}",
        f".SH OPTIONS\n{options_of(context)}",
        rest,
    ]
    return "".join(parts)


def exit_codes() -> list[tuple[str, str]]:
    """Codes and their meanings, as docs/cli.md has them."""
    section = (DOCS / "cli.md").read_text(encoding="utf-8").partition("### Exit codes\n")[2].partition("\n#")[0]
    return re.findall(r"^\| ([\d, ]+) \| (.+) \|$", section, re.MULTILINE)


def see(*names: str) -> str:
    """References to other pages."""
    return ".SH SEE ALSO\n" + ",\n".join(rf".BR {roff(name)} (1)" for name in names) + "\n"


def root_page(root: click.Context, commands: list[click.Context]) -> str:
    """lrp.1: every command in a line, exit codes and variables."""
    listed = ((rf"\fBlrp {roff(each.info_name or '')}\fR", f"{sentence_of(each.command)}.") for each in commands)
    rest = f".SH COMMANDS\n{terms(listed)}.SH EXIT STATUS\n{terms(exit_codes())}.SH ENVIRONMENT\n{terms(VARIABLES)}"
    return page(root, rest) + see(*(f"lrp-{each.info_name}" for each in commands))


def pages() -> dict[str, str]:
    """The text of every page by the name of its file."""
    root = click.Context(lrp, info_name="lrp", help_option_names=lrp.context_settings["help_option_names"])
    commands = below(root)
    made = {"lrp.1": root_page(root, commands)}
    for each in commands:
        parts = "".join(map(subcommand, below(each)))
        rest = f".SH COMMANDS\n{parts}" if parts else ""
        made[f"lrp-{each.info_name}.1"] = page(each, rest) + see("lrp")
    return made


def differing(made: dict[str, str]) -> list[str]:
    """Names of pages that are missing, old, or of a command that is gone."""
    found = {path.name: path.read_text(encoding="utf-8") for path in MAN.glob("*.1")}
    return sorted(name for name in made.keys() | found.keys() if made.get(name) != found.get(name))


if __name__ == "__main__":
    changed = differing(made := pages())
    if sys.argv[1:] == ["--check"]:
        sys.exit(f"`make docs` makes these pages anew: man/{', man/'.join(changed)}" if changed else 0)
    for name in changed:
        (MAN / name).unlink(missing_ok=True)
        if name in made:
            (MAN / name).write_text(made[name], encoding="utf-8")
