"""Where the benchmarks of data put their tables, and the options that say so."""

import argparse
from pathlib import Path

RESULTS, PAGE = Path("bench/results/speed.json"), Path("docs/experiments/speed_data.md")


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser with --out, --page and --no-page."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown page (default: %(default)s)")
    parser.add_argument("--no-page", dest="page", action="store_const", const=None, help="change no page")
    return parser
