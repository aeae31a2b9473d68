"""Why unseen combinations score less: is the thing wrong that a caption names, or its colour?

    python -m bench.held_out --seeds 42 43 44
    python -m bench.held_out --few

Reads the captions of the experiments of bench.ablation, which must have run. In the captions of the demo's
unseen test pictures it looks at every noun of a thing and at the colour said before it, and writes
bench/results/held_out_table.md, or held_out_few_table.md. A brown cat is held out: training shows cats, and
brown things, but no brown cat.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dvc.api

from bench.ablation import ROWS, cell_name
from bench.experiments import PHASES, revision, spread
from fsgr_model.datasets.demo.world_file import WorldSpec, load_world
from fsgr_model.runtime.artifacts import whole_file
from fsgr_model.runtime.errors import run_command
from fsgr_model.text.ptb_tokenizer import ptb_tokenize

RESULTS = Path("bench/results")
WORLD = Path("data/demo/world.yaml")
WORDS_BETWEEN = 2  # "brown and white cat", "brown sleepy cat"
Look = tuple[str, str]  # a kind of thing, and its colour


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="only these networks")
    parser.add_argument("--few", action="store_true", help="the captioners of few pictures")
    given = parser.parse_args()
    study, out = ("few", "held_out_few_table.md") if given.few else ("ablation", "held_out_table.md")
    world = load_world(WORLD)
    head = ["network", "phase", "thing wrong", "thing right, colour wrong", "held-out looks said"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in given.rows:
        for phase in PHASES:
            of_seed = [mistakes(phase, revision(cell_name(row, seed, study)), world) for seed in given.seeds]
            lines.append(
                "| " + " | ".join([row, phase.upper(), *map(spread, zip(*of_seed, strict=True))]) + " |"
            )
    with whole_file(RESULTS / out) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def mistakes(phase: str, rev: str, world: WorldSpec) -> tuple[float, float, float]:
    """Three shares, of an experiment's captions of unseen pictures: nouns of things that are not there, nouns
    of things that are there in another colour, and held-out looks that are there and are said.
    """
    there = unseen_looks(rev)
    held_out = set(world.held_out.colours)
    counts = Counter[str]()
    for result in read("data/captions", name=f"{phase}.json", rev=rev):
        if result["image_id"] in there:
            looks = there[result["image_id"]]
            said = list(said_looks(ptb_tokenize(result["caption"]), world))
            kinds = {kind for kind, _ in looks}
            counts["things"] += len(said)
            counts["wrong"] += sum(kind not in kinds for kind, _ in said)
            counts["recoloured"] += sum(
                kind in kinds and bool(colour) and (kind, colour) not in looks for kind, colour in said
            )
            counts["held out"] += len(looks & held_out)
            counts["held out, said"] += len(looks & held_out & set(said))
    return (
        counts["wrong"] / counts["things"],
        counts["recoloured"] / counts["things"],
        counts["held out, said"] / counts["held out"],
    )


def said_looks(tokens: Sequence[str], world: WorldSpec) -> Iterator[Look]:
    """Each thing that a caption names, with the colour of the words before it; "" where it says none."""
    kind_of = {
        noun: kind for kind, nouns in world.synonyms().items() if kind in world.objects for noun in nouns
    }
    colour_of = {word: name for name, colour in world.colours.items() for word in colour.words}
    for place, token in enumerate(tokens):
        if token in kind_of:
            before = tokens[max(0, place - WORDS_BETWEEN) : place]
            colours = [colour_of[word] for word in before if word in colour_of]
            yield kind_of[token], colours[-1] if colours else ""


def unseen_looks(rev: str) -> dict[int, set[Look]]:
    """What the unseen test pictures show, by image id."""
    images = read("data/dataset", name="images.json", rev=rev)
    instances = read("data/dataset", name="instances.json", rev=rev)
    kind_of = {category["id"]: category["name"] for category in instances["categories"]}
    looks = defaultdict[int, set[Look]](set)
    for annotation in instances["annotations"]:
        if "colour" in annotation:
            looks[annotation["image_id"]].add((kind_of[annotation["category_id"]], annotation["colour"]))
    return {image["image_id"]: looks[image["image_id"]] for image in images if image["domain"] == "unseen"}


def read(folder: str, *, name: str, rev: str) -> Any:
    """A JSON file of an experiment, from DVC's cache."""
    return json.loads(dvc.api.read(f"{folder}/{name}", rev=rev))


if __name__ == "__main__":
    run_command(main)
