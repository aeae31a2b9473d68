"""What each command takes, in docs/reference/commands.md: python -m tests.listings.commands

The parser that a command makes for its own `--help` is caught before it reads anything, so the page does not
depend on how a version of Python breaks the lines of a help text.
"""

import argparse
import importlib
import re
import sys
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

from fsgr_model.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "commands.md"
NO_ARGUMENTS = "\nIt takes no arguments.\n"
HEAD = """# The commands

`fsgr COMMAND ...` is the same as `python -m fsgr_model COMMAND ...`. Each command has `--help`. It ends with
exit code 0 when all went well, with 1 when something was refused (one line on stderr says what;
[errors](errors.md) lists the messages), and with 2 when the command line is wrong.

This page is written by `python -m tests.listings.commands` from what the commands print with `--help`; a test
compares them.

| command | what it is for |
|---|---|
"""


class Caught(Exception):
    """Carries the parser out of a command."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(command: str) -> argparse.ArgumentParser | None:
    """The parser of a command; None where it takes no arguments."""

    def stop(self: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        raise Caught(self)

    module = importlib.import_module(f"fsgr_model.commands.{command}")
    if "argparse" not in Path(module.__file__ or "").read_text(encoding="utf-8"):
        return None
    with patch.object(argparse.ArgumentParser, "parse_args", stop), patch.object(sys, "argv", [command]):
        try:
            module.main()
        except Caught as caught:
            return caught.parser
    raise AssertionError(f"{command} has argparse and parses nothing")


def page() -> str:
    index = "".join(f"| [`fsgr {name}`](#fsgr-{name}) | {what} |\n" for name, what in COMMANDS.items())
    return HEAD + index + "".join(map(command_section, COMMANDS))


def command_section(command: str) -> str:
    parser = parser_of(command)
    module = sys.modules[f"fsgr_model.commands.{command}"]
    about = plain(parser.description if parser and parser.description else module.__doc__ or "")
    rows = "".join(row(action) for action in parser._actions if action.dest != "help") if parser else ""
    options = f"\n| argument | values | default | what it does |\n|---|---|---|---|\n{rows}" if rows else ""
    return f"\n## `fsgr {command}`\n\n{about}\n{options or NO_ARGUMENTS}"


def plain(text: str) -> str:
    """A docstring as Markdown, without the command that its first line names: it is the heading."""
    paragraphs = [paragraph for paragraph in text.strip("\n").split("\n\n") if paragraph.strip()]
    first = " ".join(paragraphs[0].split())
    head = re.sub(r":? \(?(?:python -m fsgr_model|fsgr) .*$", "", first)
    return "\n\n".join([f"{head.rstrip(':')}.".replace("..", "."), *map(paragraph_of, paragraphs[1:])])


def paragraph_of(text: str) -> str:
    if text.startswith("    "):
        return "```\n" + "\n".join(line.removeprefix("    ") for line in text.splitlines()) + "\n```"
    return " ".join(text.split())


def row(action: argparse.Action) -> str:
    name = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.dest}`"
    needed = " (required)" if action.required and action.option_strings else ""
    if action.choices is not None:
        values = ", ".join(f"`{choice}`" for choice in action.choices)
    elif action.nargs == 0:
        values = ""
    else:
        values = f"{action.metavar or action.dest.upper()}" + (" ..." if action.nargs == "+" else "")
    shown = "" if action.default in (None, False) else f"`{action.default}`"
    about = (action.help or "") % {**vars(action), "prog": ""}
    return f"| {name}{needed} | {values} | {shown} | {about.replace('|', '&#124;').replace('<', '&lt;')} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
