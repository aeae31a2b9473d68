"""Samples of WebDataset shards: the members of one key, and which are the picture and its captions.

A key ends at the first dot of a member's name; the part after it is the member's kind. Of the members of a
sample the one of kind `jpg` (or another picture's) is the picture, `json` and `txt` hold its captions. If
there is none, the only member whose kind ends so is taken: `input.jpg`, `outputs.txt`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsgr_model.datasets.picture_kinds import PICTURE_SUFFIXES
from fsgr_model.runtime.artifacts import parse_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.text.lines import lines_of


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a tar file; `text` is empty for a picture."""

    kind: str
    name: str
    size: int
    text: str = ""

    @property
    def is_plain(self) -> bool:
        return "." not in self.kind


@dataclass
class Sample:
    """The members of one key that may be used, and the kinds of the others."""

    pictures: list[Member] = field(default_factory=list)
    texts: list[Member] = field(default_factory=list)
    described: list[Member] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def members_like(self, kind: str) -> list[Member] | None:
        """The list that members of this kind belong to, if any."""
        end = kind.rpartition(".")[2]
        if end in PICTURE_SUFFIXES:
            return self.pictures
        return {"txt": self.texts, "json": self.described}.get(end)


@dataclass
class Tally:
    """Counts for the report, made while samples are read."""

    several_lines: int = 0
    other_text: int = 0
    not_plain: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)

    def notes(self) -> Iterator[str]:
        if self.several_lines:
            yield (
                f"{self.several_lines} .txt of several lines were read as one caption each; "
                "dataset.shards.caption_per_line: true makes each line a caption"
            )
        if self.other_text:
            yield f"{self.other_text} samples say something else in .txt than in .json, which was taken"
        if self.not_plain:
            yield f"taken, since there was no other of their suffix: {_counted(self.not_plain)}"
        if self.passed_over:
            yield f"members that were passed over: {_counted(self.passed_over)}"


def _counted(kinds: Counter[str]) -> str:
    return listed([f"{number} of kind {kind}" for kind, number in sorted(kinds.items())])


def picture_of(sample: Sample, shard: Path, tally: Tally) -> Member | None:
    """The picture of a sample, None if it has none.

    Raises:
        UserError: it has two.
    """
    tally.passed_over.update(sample.others)
    return _only(sample.pictures, "pictures", shard, tally)


def captions_of(sample: Sample, shard: Path, caption_per_line: bool, tally: Tally) -> list[str]:
    """The captions of a sample: those of its JSON if it has any, else its text as one or one per line.

    Raises:
        UserError: its JSON is malformed, or it has two texts.
    """
    described = _described(sample, shard, tally)
    if described:
        tally.other_text += any(_differs(text.text, described) for text in sample.texts if text.is_plain)
        return described
    text = _only(sample.texts, "texts", shard, tally)
    if text is None:
        return []
    lines = [line for line in lines_of(text.text) if line.strip()]
    if caption_per_line:
        return lines
    tally.several_lines += len(lines) > 1
    return [text.text.strip("\r\n")] if lines else []


def _described(sample: Sample, shard: Path, tally: Tally) -> list[str]:
    """The captions in the JSON; JSON members other than `KEY.json` need not have any."""
    found = [
        (member, captions) for member in sample.described if (captions := _captions_in_json(shard, member))
    ]
    taken = _only([member for member, _ in found], "JSON files with captions", shard, tally)
    return next((captions for member, captions in found if member is taken), [])


def _only(members: list[Member], what: str, shard: Path, tally: Tally) -> Member | None:
    candidates = [member for member in members if member.is_plain] or members
    tally.passed_over.update(member.kind for member in members if member not in candidates)
    if len(candidates) > 1:
        raise UserError(
            f"{shard}: one sample has two {what}, {candidates[0].name} and {candidates[1].name}; "
            "keep one of them"
        )
    tally.not_plain.update(member.kind for member in candidates if not member.is_plain)
    return candidates[0] if candidates else None


def _captions_in_json(shard: Path, member: Member) -> list[str]:
    captions = _captions_in(parse_json(member.text, f"{shard}: {member.name}"))
    if captions is None and member.is_plain:
        raise UserError(f"{shard}: {member.name} needs `captions` (a list of texts) or `caption` (a text)")
    return captions or []


def _captions_in(values: Any) -> list[str] | None:
    """Captions in a sample's JSON; an empty list if img2dataset wrote null, None for another form."""
    if not isinstance(values, dict):
        return None
    found: Any = next(
        (values[key] for key in ("captions", "caption") if values.get(key) not in (None, [], "")), []
    )
    captions = [found] if isinstance(found, str) else found
    well_formed = isinstance(captions, list) and all(isinstance(caption, str) for caption in captions)
    return captions if well_formed else None


def _differs(text: str, captions: list[str]) -> bool:
    """Whether a text is neither one of the captions nor all of them; white space is ignored."""
    said = text.split()
    return bool(said) and said not in [each.split() for each in (*captions, " ".join(captions))]


def refuse_without_picture(shard: Path, samples: Iterable[tuple[str, Sample]]) -> None:
    """Raise a UserError that lists the samples without a picture and what they have, if there are any."""
    bare = [
        f"{key} ({', '.join([*(each.kind for each in [*sample.texts, *sample.described]), *sample.others])})"
        for key, sample in samples
        if not sample.pictures
    ]
    if bare:
        raise UserError(
            f"{shard}: samples without a picture ({', '.join(sorted(PICTURE_SUFFIXES))}): {listed(bare)}; "
            "make the shard again without them"
        )
