"""Parameters of decoding: how captions are searched or drawn, and what is asked of them."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from fsgr_model.config.section import Count, Section
from fsgr_model.runtime.errors import UserError


class LengthParams(Section):
    """How long captions are, in words; the end token is no word. Captions are not cut: they end."""

    min_words: Annotated[int, Field(ge=0)] = Field(0, description="fewest words")
    max_words: Count | None = Field(None, description="most words; null: as decode.max_length allows")
    target_words: Count | None = Field(
        None, description="every word above or below this number costs one unit of log-probability"
    )
    penalty: Annotated[float, Field(ge=-10, le=10)] = Field(
        0.0,
        description="beam search ranks by log-probability / ((5 + n) / 6)^penalty of n positions (arXiv "
        "1609.08144, equation 14): above 0 longer captions win more often, below 0 shorter ones",
    )


class WordsParams(Section):
    """Which words captions have; a text is split into words as captions are."""

    begin: str = Field("", description="what every caption begins with")
    must: list[str] = Field([], description="words or phrases that every caption contains")
    must_not: list[str] = Field([], description="words or phrases that no caption contains")
    no_repeat: Count | None = Field(
        None, description="no sequence of so many words occurs twice in a caption; 1: no word does"
    )


class GroupsParams(Section):
    """Diverse beam search (Vijayakumar et al., arXiv 1610.02424): the beam is divided into groups."""

    count: Annotated[int, Field(ge=2)] = Field(description="groups, equally large")
    strength: Annotated[float, Field(gt=0, le=1000)] = Field(
        0.5, description="log-probability that a word costs per hypothesis of an earlier group that chose it"
    )


class SamplingParams(Section):
    """Captions are drawn from the model instead of searched."""

    samples: Count = Field(description="captions drawn per image")
    temperature: Annotated[float, Field(ge=0.01, le=100)] = Field(
        1.0, description="log-probabilities are divided by it: below 1 likely words become likelier"
    )
    top_k: Count | None = Field(
        None, description="draw each word from so many likeliest ones; null: from all"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="draw each word from the fewest likeliest ones that have this probability together"
    )
    consensus: bool = Field(
        False,
        description="the best caption is the one most like all samples by CIDEr-D (minimum Bayes risk); "
        "otherwise they stay in the order in which they were drawn",
    )


class DecodeParams(Section):
    """How captions are made: beam search, unless `sampling` is set."""

    beam_size: Count = Field(description="hypotheses kept")
    max_length: Annotated[int, Field(ge=1, le=500)] = Field(
        description="longest caption in positions, including the end token"
    )
    length: LengthParams | None = Field(None, description="wishes about lengths; null: none")
    words: WordsParams | None = Field(None, description="wishes about words; null: none")
    groups: GroupsParams | None = Field(None, description="diverse beam search; null: one beam")
    sampling: SamplingParams | None = Field(None, description="draw captions; null: beam search")

    @model_validator(mode="after")
    def _lengths_agree(self) -> "DecodeParams":
        length = self.length
        if length is None:
            return self
        if length.min_words >= self.max_length:
            raise ValueError(
                f"length.min_words {length.min_words} and the end token need more than max_length "
                f"{self.max_length} positions; raise max_length"
            )
        if length.max_words is not None and length.max_words < length.min_words:
            raise ValueError(f"length.max_words {length.max_words} is below min_words {length.min_words}")
        return self

    @model_validator(mode="after")
    def _one_way(self) -> "DecodeParams":
        if self.groups and self.sampling:
            raise ValueError("groups and sampling exclude each other: captions are searched or drawn")
        if self.groups and self.beam_size % self.groups.count:
            raise ValueError(
                f"beam_size {self.beam_size} cannot be divided among {self.groups.count} groups; "
                f"set it to a multiple of {self.groups.count}"
            )
        if self.sampling is None:
            return self
        if self.words and self.words.must:
            raise ValueError(
                "words.must needs the beam search, since a draw cannot plan ahead; unset sampling"
            )
        if self.length and self.length.penalty:
            raise ValueError("length.penalty ranks the beam search and has no part in draws; unset sampling")
        return self

    @property
    def most_words(self) -> int:
        """Of a caption that ends by itself, or is as long as `max_length`."""
        most = self.length.max_words if self.length else None
        return self.max_length if most is None else min(most, self.max_length)


def changed(decode: DecodeParams, changes: Mapping[str, Any]) -> DecodeParams:
    """The parameters with some others: dotted names (`length.min_words`) and their values.

    Raises:
        UserError: there is no such parameter, or a value is out of range or does not fit the others.
    """
    values = decode.model_dump()
    for name, value in changes.items():
        *sections, last = name.split(".")
        inner = values
        for section in sections:
            if inner.get(section) is None:
                inner[section] = {}
            inner = inner[section]
            if not isinstance(inner, dict):
                raise UserError(f"decode.{name}: {section} has no parameters of its own; check its spelling")
        inner[last] = value
    try:
        return DecodeParams.model_validate(values)
    except ValidationError as error:
        raise UserError("; ".join(map(_one_line, error.errors()))) from None


def _one_line(problem: Any) -> str:
    """`decode.length.min_words: Input should be greater than or equal to 0 (found -1)`"""
    name = ".".join(map(str, ("decode", *problem["loc"])))
    match problem["type"]:
        case "missing":
            return f"{name}: missing; give it as well"
        case "extra_forbidden":
            return f"{name}: unknown parameter; check its spelling"
        case "value_error":
            return f"{name}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{name}: {problem['msg']} (found {problem['input']!r})"


def one_way(beam_size: int | None, samples: int | None) -> dict[str, Any]:
    """Changes for `changed`: a beam search or draws, where a number is given, whatever the model does."""
    if samples is not None:
        return {"groups": None, "sampling.samples": samples}
    return {} if beam_size is None else {"sampling": None, "beam_size": beam_size}


def captions_asked(decode: DecodeParams, n_best: int | None) -> int:
    """How many captions of an image are wanted, where `n_best` were asked for, or None for the default.

    Raises:
        UserError: there are not so many, or nothing says which are the best.
    """
    sampling, groups = decode.sampling, decode.groups
    if n_best is None:
        if sampling and not sampling.consensus:
            return sampling.samples
        return groups.count if groups else 1
    if sampling and not sampling.consensus:
        raise UserError(
            "the n best of samples need decode.sampling.consensus (--consensus): nothing else orders them"
        )
    most = sampling.samples if sampling else decode.beam_size
    if not 1 <= n_best <= most:
        what = "samples are drawn (--sample)" if sampling else "hypotheses are kept (--beam-size)"
        raise UserError(f"the {n_best} best captions cannot be given: {most} {what}; ask for 1 to {most}")
    return n_best
