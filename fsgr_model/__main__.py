"""`fsgr COMMAND ...`, which is `python -m fsgr_model COMMAND ...`."""

import importlib
import sys
from difflib import get_close_matches

from fsgr_model import __version__
from fsgr_model.runtime.errors import run_command

# Each is a module of `fsgr_model.commands`, imported only when it is asked for.
COMMANDS = {
    "caption": "caption pictures",
    "check": "look at a parameter file before anything long starts",
    "compare": "set two experiments or result files side by side",
    "export": "write a trained network to a folder of its own",
    "page": "show a model and its project in the browser",
    "results": "write captions as an evaluation server wants them",
    "score": "score captions in COCO's form",
    "standing": "compare the scores of the last run with the committed ones",
}
BEGIN = """\
In a project, dvc repro trains and scores; fsgr page shows the result, fsgr caption photo.jpg uses it.
With a folder that fsgr export wrote: fsgr page --model FOLDER, fsgr caption --model FOLDER photo.jpg."""
# What `python -m pipeline.export_results` was before the commands had a room of their own.
FORMER_NAMES = {"export_results": "results"}


def main() -> None:
    """Run the command that the first argument names.

    Raises:
        SystemExit: 2 where an unknown command is named, else as the command ends.
    """
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name == "--version":
        print(f"fsgr {__version__}")
        return
    name = FORMER_NAMES.get(name, name)
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        sys.exit(_refusal(f"there is no command {name!r}{meant}"))
    sys.argv = [f"fsgr {name}", *rest]
    run_command(importlib.import_module(f"fsgr_model.commands.{name}").main)


def usage() -> str:
    """The commands, a line each, and how to begin."""
    lines = [f"  {name:<10}{what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: fsgr COMMAND ...; fsgr COMMAND --help says more", *lines, BEGIN])


def _refusal(said: str) -> int:
    print(f"fsgr: {said}\n{usage()}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
