"""What cog writes into the documentation: what the installed command really prints."""

import shlex
import subprocess
import sys

import cog


def output(command: str) -> None:
    """A command line and what it prints, as a block of text."""
    result = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{command} ended with {result.returncode}: {result.stderr}")
    cog.outl("")
    cog.outl("```text")
    cog.outl(f"$ {command}")
    cog.outl(result.stdout.rstrip())
    cog.outl("```")
    cog.outl("")
