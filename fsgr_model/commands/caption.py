"""Caption images: fsgr caption photo.jpg folder/

Prints one line per image: its path, a tab, its caption. With --json it prints one JSON object per image:
path, caption, log_probability (natural, end token included) and concepts (one name per patch, one list per
row of patches). Pictures that cannot be read are named on stderr, the others are captioned, and the exit code
is then 1. What else lies in a folder is counted by its suffix and left alone.
"""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def main() -> None:
    arguments = parse()
    # File names need not be UTF-8.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    with ended_by_its_reader():
        caption(arguments)


@contextmanager
def ended_by_its_reader() -> Iterator[None]:
    """A reader such as `head` may leave early: that ends the process without a word, within the block.

    Behind it the signal is as it was, for a program that calls this and goes on.
    """
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
    finally:
        sys.stdout.flush()
        signal.signal(signal.SIGPIPE, before)


def caption(arguments: argparse.Namespace) -> None:
    """Raises: SystemExit: with code 1, if a picture could not be read."""
    # Slow imports come after the arguments are parsed, so that mistakes in them are reported at once.
    from fsgr_model.commands.caption_files import caption_files
    from fsgr_model.inference.image_captioner import ImageCaptioner
    from fsgr_model.inference.model_folder import exported_model, pipeline_model

    files = exported_model(arguments.model) if arguments.model else pipeline_model(arguments.phase)
    captioner = ImageCaptioner(
        files, beam_size=arguments.beam_size, samples=arguments.sample, seed=arguments.seed
    )
    if not caption_files(captioner, arguments.images, arguments.json, arguments.overlay):
        raise SystemExit(1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fsgr caption",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders: all images below them")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of text")
    parser.add_argument("--overlay", type=Path, metavar="FOLDER", help="draw label maps and attention there")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--beam-size", type=positive, metavar="N", help="default: decode.beam_size of the model")
    how.add_argument("--sample", type=positive, metavar="N", help="sample N captions per image, one per line")
    parser.add_argument("--seed", type=int, default=0, help="seed of --sample (default 0)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", type=Path, metavar="FOLDER", help="a folder that fsgr export wrote")
    which.add_argument(
        "--phase",
        choices=["xe", "scst"],
        default="scst",
        help="the network of this project's own run (default scst)",
    )
    return parser.parse_args()


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number
