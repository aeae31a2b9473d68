"""Caption images: fsgr caption photo.jpg folder/

Prints one line per image: its path, a tab, its caption. With --json it prints one JSON object per image:
path, caption, log_probability (natural, end token included) and concepts (one name per patch, one list per
row of patches). Pictures that cannot be read are named on stderr, the others are captioned, and the exit code
is then 1. What else lies in a folder is counted by its suffix and left alone.
"""

import argparse
import sys
from pathlib import Path

from fsgr_model.runtime.errors import drop_output

# What a shell gives for a command that SIGPIPE ended.
READER_LEFT = 141


def main() -> None:
    arguments = parse()
    # File names need not be UTF-8.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    # Slow imports come after the arguments are parsed, so that mistakes in them are reported at once.
    from fsgr_model.commands.caption_files import caption_files
    from fsgr_model.inference.image_captioner import ImageCaptioner
    from fsgr_model.inference.model_folder import exported_model, pipeline_model

    files = exported_model(arguments.model) if arguments.model else pipeline_model(arguments.phase)
    captioner = ImageCaptioner(
        files, beam_size=arguments.beam_size, samples=arguments.sample, seed=arguments.seed
    )
    try:
        complete = caption_files(captioner, arguments.images, arguments.json, arguments.overlay)
    except BrokenPipeError:
        # A reader such as `head` has what it wants. SIGPIPE stays ignored: its default would end this process
        # without a word for any pipe, that of a worker too.
        drop_output()
        raise SystemExit(READER_LEFT) from None
    if not complete:
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
