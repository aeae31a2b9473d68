"""What a scene shows: kinds, colours, sizes, counts, places. Sampled before anything is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from fsgr_model.datasets.demo.world_file import WorldSpec

Domain = Literal["seen", "unseen", "any"]
Key = TypeVar("Key")
PLACE_TRIES = 40


@dataclass(frozen=True)
class Group:
    """Things of one kind, colour and size."""

    kind: str
    colour: str
    size: str
    count: int


@dataclass(frozen=True)
class Thing:
    """One object: the group it belongs to, where it stands and how it is drawn.

    `x` is its middle and `foot` its lowest point, in image sides; `side` the side of its drawing; `stands`
    says that it touches the ground.
    """

    group: int
    x: float
    foot: float
    side: float
    tilt: float
    mirrored: bool
    stands: bool
    rgb: tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """Everything in a picture; `things` are sorted from back to front."""

    background: str
    weather: str
    horizon: float
    groups: tuple[Group, ...]
    things: tuple[Thing, ...]


def held_out_combinations(groups: tuple[Group, ...], world: WorldSpec) -> list[tuple[str, str]]:
    """The held-out (object, colour) and (object, object) combinations that these groups show."""
    kinds = {group.kind for group in groups}
    colours = [
        (group.kind, group.colour) for group in groups if (group.kind, group.colour) in world.held_out.colours
    ]
    return colours + [pair for pair in world.held_out.pairs if set(pair) <= kinds]


def sample_scene(world: WorldSpec, rng: np.random.Generator, domain: Domain) -> Scene:
    """A scene: `seen` has no held-out combination, `unseen` at least one, `any` has no such constraint."""
    while True:
        groups = _sample_groups(world, rng, domain)
        if domain != "any" and bool(held_out_combinations(groups, world)) != (domain == "unseen"):
            continue
        background = str(rng.choice(list(world.backgrounds)))
        horizon = float(rng.uniform(0.46, 0.58))
        if things := _place(groups, world, horizon, rng):
            weather = str(rng.choice(world.backgrounds[background].weather))
            return Scene(background, weather, horizon, groups, things)


def pick(chances: Mapping[Key, float], rng: np.random.Generator) -> Key:
    """One key, drawn with the given weights (which need not sum to 1)."""
    weights = np.fromiter(chances.values(), dtype=np.float64)
    share = (weights / weights.sum()).cumsum()
    # Does what rng.choice does, without its checks of the weights, which took longer than the rest.
    return list(chances)[int((share / share[-1]).searchsorted(rng.random(), side="right"))]


def _sample_groups(world: WorldSpec, rng: np.random.Generator, domain: Domain) -> tuple[Group, ...]:
    kinds, colours = _sample_kinds(world, rng, domain)
    counts = [1] * len(kinds)
    counts[int(rng.integers(len(kinds)))] = min(
        pick(world.scene.counts, rng), world.scene.most_things - len(kinds) + 1
    )
    groups = []
    for kind, count in zip(kinds, counts, strict=True):
        choice = world.objects[kind].colours if domain == "any" else world.training_colours(kind)
        colour = colours.get(kind) or str(rng.choice(choice))
        chances = {name: size.chance for name, size in world.sizes.items() if count < 3 or name != "large"}
        groups.append(Group(kind, colour, pick(chances, rng), count))
    return tuple(groups)


def _sample_kinds(
    world: WorldSpec, rng: np.random.Generator, domain: Domain
) -> tuple[list[str], dict[str, str]]:
    """Distinct kinds, and the fixed colours among them: unseen starts from a held-out colour or pair."""
    first: tuple[str, ...] = ()
    colours: dict[str, str] = {}
    if domain == "unseen" and rng.random() < 0.5:
        kind, colour = world.held_out.colours[int(rng.integers(len(world.held_out.colours)))]
        first, colours = (kind,), {kind: colour}
    elif domain == "unseen":
        first = world.held_out.pairs[int(rng.integers(len(world.held_out.pairs)))]
    others = [str(kind) for kind in rng.permutation(list(world.objects)) if kind not in first]
    groups = world.scene.pretraining_groups if domain == "any" else world.scene.groups
    kinds = [*first, *others][: max(pick(groups, rng), len(first))]
    return [str(kind) for kind in rng.permutation(kinds)], colours


def _place(
    groups: tuple[Group, ...], world: WorldSpec, horizon: float, rng: np.random.Generator
) -> tuple[Thing, ...] | None:
    """Things from back to front, none hidden too much; None if there is no room for them."""
    things: list[Thing] = []
    for index in [index for index, group in enumerate(groups) for _ in range(group.count)]:
        for _ in range(PLACE_TRIES):
            thing = _sample_thing(index, groups[index], world, horizon, rng=rng)
            if all(_overlap(thing, other) <= world.scene.most_overlap for other in things):
                things.append(thing)
                break
        else:
            return None
    return tuple(sorted(things, key=lambda thing: (thing.stands, thing.foot)))


def _sample_thing(
    index: int, group: Group, world: WorldSpec, horizon: float, *, rng: np.random.Generator
) -> Thing:
    side = float(rng.uniform(*world.sizes[group.size].share))
    stands = world.objects[group.kind].zone == "ground"
    lowest = max(horizon + 0.08, side + 0.01) if stands else side + 0.01
    highest = 0.99 if stands else max(horizon, side + 0.02)
    base = world.colours[group.colour].rgb
    shift = rng.uniform(-1, 1) * world.scene.shade_jitter + rng.uniform(-5, 5, 3)
    return Thing(
        group=index,
        x=float(rng.uniform(side / 2 - 0.02, 1.02 - side / 2)),
        foot=float(rng.uniform(lowest, highest)),
        side=side,
        tilt=float(rng.uniform(-1, 1)) * world.scene.tilt_degrees,
        mirrored=bool(rng.random() < world.scene.mirrored),
        stands=stands,
        rgb=tuple(int(min(max(value + change, 0), 255)) for value, change in zip(base, shift, strict=True)),
    )


def _overlap(one: Thing, other: Thing) -> float:
    """Area of the intersection of the two squares, as a share of the smaller square."""
    width = min(one.x + one.side / 2, other.x + other.side / 2) - max(
        one.x - one.side / 2, other.x - other.side / 2
    )
    height = min(one.foot, other.foot) - max(one.foot - one.side, other.foot - other.side)
    return max(width, 0.0) * max(height, 0.0) / min(one.side, other.side) ** 2
