"""Runs the benchmarks one after the other, each in a process of its own, and renews
docs/experiments/speed.md.

python -m bench.run                        # all of them
python -m bench.run xe_step beam -- --rounds 5
python -m bench.run -- --device cuda --dtype bfloat16 --compile --batch 50 100 200 400
"""

import subprocess
import sys

from fsgr_model.runtime.errors import UserError, run_command

BENCHES = ("xe_step", "scst_step", "beam")


def main() -> None:
    """The arguments before `--` are names, those after it go to every benchmark."""
    names, options = _split(sys.argv[1:])
    if unknown := [name for name in names if name not in BENCHES]:
        raise UserError(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHES)}")
    for name in names or BENCHES:
        if subprocess.run([sys.executable, "-m", f"bench.{name}", *options]).returncode:
            raise UserError(f"bench.{name} failed; its message stands above")


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place + 1 :]


if __name__ == "__main__":
    run_command(main)
