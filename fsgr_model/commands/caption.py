"""Caption images: fsgr caption photo.jpg folder/

Prints one line per image: its path, a tab, its caption. With --json it prints one JSON object per image:
path, caption, log_probability (natural, end token included), word_log_probabilities (its parts: each word's,
then the end token's) and concepts (one name per patch, one list per row of patches). What is asked of
captions takes the place of the model's own decode parameters; docs/howto/decoding.md has examples.
Pictures that cannot be read, and those of which no caption fulfils what is asked, are named on stderr, the
others are captioned, and the exit code is then 1. What else lies in a folder is counted by its suffix and
left alone.

With --out captions.jsonl the captions of very many pictures go to a file, a JSON line per picture. The same
command continues after any end: pictures that have a line are skipped.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fsgr_model.runtime.errors import drop_output

# What a shell gives for a command that SIGPIPE ended.
READER_LEFT = 141


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


# Option: the parameter below `decode` that it sets, its type, what help calls its value, and what it does.
WISHES: dict[str, tuple[str, Callable[[str], Any], str, str]] = {
    "--max-length": ("max_length", positive, "N", "positions, the end token's included; longer ones are cut"),
    "--min-words": ("length.min_words", positive, "N", "fewest words of a caption"),
    "--max-words": ("length.max_words", positive, "N", "most words of a caption, which ends then"),
    "--target-words": ("length.target_words", positive, "N", "prefer captions of about N words"),
    "--length-penalty": (
        "length.penalty",
        float,
        "X",
        "above 0: longer captions win more often; below: shorter",
    ),
    "--begin": ("words.begin", str, "TEXT", "every caption begins with this"),
    "--must": ("words.must", str, "TEXT", "a word or phrase that must occur; may be repeated"),
    "--must-not": ("words.must_not", str, "TEXT", "a word or phrase that must not occur; may be repeated"),
    "--no-repeat": ("words.no_repeat", positive, "N", "no N words in a row occur twice"),
    "--groups": ("groups.count", positive, "N", "diverse beam search in N groups; a caption of each"),
    "--group-strength": ("groups.strength", float, "X", "how much groups differ (default 0.5)"),
    "--temperature": (
        "sampling.temperature",
        float,
        "X",
        "of --sample: below 1 likely words become likelier",
    ),
    "--top-k": ("sampling.top_k", positive, "N", "of --sample: draw words from the N likeliest"),
    "--top-p": ("sampling.top_p", float, "X", "of --sample: from the likeliest of probability X together"),
}


def main() -> None:
    arguments = parse()
    # File names need not be UTF-8.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    # Slow imports come after the arguments are parsed, so that mistakes in them are reported at once.
    from fsgr_model.commands.bulk import caption_into
    from fsgr_model.commands.bulk_workers import Job
    from fsgr_model.commands.caption_files import caption_files
    from fsgr_model.inference.ensemble import load
    from fsgr_model.inference.hub_model import local_folder
    from fsgr_model.inference.model_folder import exported_model, pipeline_model

    loading = partial(
        load,
        [exported_model(local_folder(name)) for name in arguments.model or ()]
        or [pipeline_model(arguments.phase)],
        decode=changes(arguments),
        n_best=arguments.n_best,
        seed=arguments.seed,
    )
    try:
        if arguments.out is not None:
            job = Job(loading, arguments.json)
            processes, beside = arguments.processes or 1, arguments.txt
            complete = caption_into(arguments.out, arguments.images, job, processes=processes, beside=beside)
        else:
            complete = caption_files(loading(), arguments.images, arguments.json, arguments.overlay)
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
    parser.add_argument("--out", type=Path, metavar="FILE", help="a file to which JSON lines are added")
    parser.add_argument("--txt", action="store_true", help="with --out: a .txt beside each picture as well")
    parser.add_argument("--processes", type=positive, metavar="N", help="with --out: N networks, a GPU each")
    parser.add_argument("--overlay", type=Path, metavar="FOLDER", help="draw label maps and attention there")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--beam-size", type=positive, metavar="N", help="default: decode.beam_size of the model")
    how.add_argument("--sample", type=positive, metavar="N", help="sample N captions per image, one per line")
    parser.add_argument("--seed", type=int, default=0, help="seed of --sample (default 0)")
    parser.add_argument("--n-best", type=positive, metavar="N", help="captions per image, the best first")
    for option, (_, kind, metavar, what) in WISHES.items():
        action = "append" if kind is str and option != "--begin" else "store"
        parser.add_argument(option, type=kind, metavar=metavar, action=action, help=what)
    parser.add_argument("--consensus", action="store_true", help="the sample most like all samples is best")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        metavar="FOLDER",
        action="append",
        help="a folder that fsgr export wrote, or hf://owner/name; several choose words together, by "
        "their mean probability",
    )
    which.add_argument(
        "--phase",
        choices=["xe", "scst"],
        default="scst",
        help="the network of this project's own run (default scst)",
    )
    arguments = parser.parse_args()
    for option in ("--temperature", "--top-k", "--top-p", "--consensus"):
        given = getattr(arguments, name_of(option))
        if given is not None and given is not False and arguments.sample is None:
            parser.error(f"{option} is for draws; give --sample N as well")
    if arguments.out is None and (arguments.txt or arguments.processes):
        parser.error("--txt and --processes are for many pictures; give --out FILE as well")
    if arguments.out is not None and arguments.overlay is not None:
        parser.error("--overlay is for few pictures; leave out --out")
    return arguments


def changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the arguments put in place of the model's own parameters, by dotted name below `decode`."""
    from fsgr_model.config.decode_params import one_way

    given = {name: getattr(arguments, name_of(option)) for option, (name, *_) in WISHES.items()}
    found = {name: value for name, value in given.items() if value is not None}
    if arguments.consensus:
        found["sampling.consensus"] = True
    return one_way(arguments.beam_size, arguments.sample) | found


def name_of(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
