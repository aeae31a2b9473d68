"""Every architecture of open_clip, and what can be done with it here: python -m tests.listings.towers

Shapes come from models without weights. Parity is computed with random weights, at the full width and picture
size but with few blocks, since all blocks of a tower are alike.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from fsgr_model.clip.model_building import VARIANT, build_model
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.split import Tail, tower_name
from fsgr_model.clip.towers import AnyTail, AnyTrunk, check_tower, kind_of, make_tail, make_trunk
from fsgr_model.runtime.errors import UserError
from tests.worlds.towers import with_weights_that_matter

Config = dict[str, Any]
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "towers.md"
SMALL_TEXT = {"vocab_size": 100, "width": 64, "heads": 1, "layers": 1}
# What makes a tower of each library shallow.
FEW_BLOCKS: dict[str, Config] = {
    "convnext": {"depths": [1, 1, 1, 1]},
    "fastvit_mci0": {"layers": [1, 1, 1, 1]},
    "fastvit_mci1": {"layers": [1, 1, 1, 1]},
    "fastvit_mci2": {"layers": [1, 1, 1, 1]},
    "fastvit": {"layers": [1, 1, 1, 1, 1]},
    "swin": {"depths": [1, 1, 1, 1]},
    "": {"depth": 2},
}
RELATIVE = 1e-4
BYTES = 2
HEAD = """# CLIPs of open_clip

Every architecture that open_clip {version} with timm {timm} names, {count} of them with {tags} tags of
weights. {works} of the architectures work, with {works_tags} of the tags ({share:.1%}).

- **Works** means that trunk and tail together equal open_clip's own `encode_image`: a relative error below
  {relative} in float32, for the architecture at its full width and picture size with random weights and two
  blocks (every stage one block) at its lowest and its highest cut.
- **Cuts**: the values that `clip.cut` may have. A transformer is cut before a block; towers in stages are cut
  after a stage, and the highest value caches all but the head; a ResNet is cut before its attention pool.
- **Cached** are so many tokens of so many float16 numbers per picture, here at half of the blocks or after
  the last stage; KB says how much that is.
- **Grid**: the patches that the captioner sees, which are those of the label maps too.
- **Head**: how a patch by itself comes into the joint space, for label maps and the semantic quantiser.
  *Token*, *mean*: a patch takes the way of the class token or of the mean, through the last norm and the
  projection (MaskCLIP, arXiv 2112.01071, has it for class tokens). *Attention*: it takes the value path of
  the attention pool, as MaskCLIP's patches take that of a ResNet's; for other pools a choice of ours.
  *Stages*: it takes the way of the mean, through the norm and the projections behind the pool, our choice.
  What `labels.attention` and `model.align` say of the last block comes before it; towers in stages have no
  attention there, and take `value` or `plain` only.
- **Tuned**: whether `model.tail` can train adapters and prompts inside its blocks. It can in every
  transformer: an adapter follows what the attention adds to the tokens, and prompts are further keys and
  values without a place in the picture. Towers in stages mix neighbours, by convolutions or in windows
  (Swin), where a prompt has no place; a ResNet's tail is its attention pool, which adds nothing to tokens.
- **Tokenizer**: open_clip's own, or one of transformers, which is an extra: `pip install
  "transformers[sentencepiece]>=5,<6"`. Some have a text tower of transformers too.

Written by `python -m tests.listings.towers`; a test compares some of the rows, a nightly one all.

| `clip.model` | tags | vision tower | cuts | cached | KB | grid | head | tuned | tokenizer | works |
|---|---|---|---|---|---|---|---|---|---|---|
"""


class Facts(NamedTuple):
    """What a row says of the vision tower of an architecture that works, at the cut that is shown."""

    cuts: range
    trunk: AnyTrunk
    tail: AnyTail


def vision_config(name: str) -> Config:
    """The architecture with a small text tower, which has no part in what is listed."""
    config: Config = open_clip.get_model_config(name)
    kept = {
        key: config["text_cfg"][key] for key in ("output_tokens", "embed_cls") if key in config["text_cfg"]
    }
    small = {"multimodal_cfg": dict(SMALL_TEXT)} if "multimodal_cfg" in config else {}
    return {**config, **small, "text_cfg": {**SMALL_TEXT, **kept}}


def shallow_config(name: str) -> Config:
    """The same with few blocks."""
    config = deepcopy(vision_config(name))
    vision = config["vision_cfg"]
    timm_name = vision.get("timm_model_name")
    if timm_name:
        vision[VARIANT] = next(few for start, few in FEW_BLOCKS.items() if timm_name.startswith(start))
    else:
        vision["layers"] = [1, 1, 1, 1] if isinstance(vision["layers"], list) else 2
    return config


def cuts_of(model: nn.Module) -> range:
    """The values that `clip.cut` may have."""
    first = kind_of(model).first_cut
    for cut in range(first, 1000):
        try:
            make_trunk(model, cut)
        except UserError:
            return range(first, cut)
    raise AssertionError("no tower has so many blocks")


def facts_of(name: str) -> Facts:
    """Of a model without weights.

    Raises:
        UserError: its tower cannot be cut.
    """
    with torch.device("meta"):
        model = build_model(vision_config(name), name).eval()
        check_tower(model)
        cuts = cuts_of(model)
        tail_is_blocks = isinstance(make_tail(model, cuts[-1], "value"), Tail)
        cut = len(cuts) // 2 if tail_is_blocks else cuts[-1]
        return Facts(cuts, make_trunk(model, cut), make_tail(model, cut, "value"))


@torch.inference_mode()
def relative_error(name: str) -> float:
    """The largest difference to `encode_image` at the lowest and the highest cut, relative to its norm."""
    torch.manual_seed(6)
    model = with_weights_that_matter(build_model(shallow_config(name), name)).eval()
    side = model.visual.image_size
    images = torch.randn(2, 3, *(side if isinstance(side, tuple) else (side, side)))
    expected_BE = F.normalize(model.encode_image(images), dim=-1)
    cuts = cuts_of(model)
    errors = []
    for cut in {cuts[0], cuts[-1]}:
        found_BE = make_tail(model, cut, "value")(make_trunk(model, cut)(images)).global_BE
        errors.append((F.normalize(found_BE, dim=-1) - expected_BE).norm(dim=-1).max().item())
    return max(errors)


def head_of(tail: AnyTail) -> str:
    """How the tail pools, and so how a patch is placed."""
    if not isinstance(tail, Tail):
        return "attention" if hasattr(tail, "pool") else "stages"
    if getattr(tail.head, "attn_pool", None) is not None:
        return "attention"
    return {"tok": "token", "token": "token", "avg": "mean"}[str(tail.head.pool_type)]


def tokenizer_of(name: str) -> str:
    text = open_clip.get_model_config(name)["text_cfg"]
    tower, tokenizer = (text.get(key, "") for key in ("hf_model_name", "hf_tokenizer_name"))
    if tower:
        return f"{tokenizer}, text tower too"
    return f"{tokenizer}" if tokenizer else "own"


def row(name: str) -> str:
    """The line of an architecture."""
    tags = len(open_clip.list_pretrained_tags_by_model(name))
    try:
        facts = facts_of(name)
    except UserError as error:
        reason = str(error).partition(";")[0]
        return f"| `{name}` | {tags} | | | | | | | | {tokenizer_of(name)} | refused: {reason} |\n"
    (T, W), cuts = facts.trunk.token_shape, facts.cuts
    cells = [
        f"`{name}`",
        tags,
        tower_of(name),
        cuts[0] if len(cuts) == 1 else f"{cuts[0]} to {cuts[-1]}",
        f"{T} x {W}",
        round(T * W * BYTES / 1000),
        " x ".join(map(str, facts.tail.grid_size)),
        head_of(facts.tail),
        "yes" if isinstance(facts.tail, Tail) else "no",
        tokenizer_of(name),
        "yes" if relative_error(name) < RELATIVE else "no",
    ]
    return f"| {' | '.join(map(str, cells))} |\n"


def tower_of(name: str) -> str:
    with torch.device("meta"):
        return tower_name(build_model(vision_config(name), name))


def rows() -> Iterator[tuple[str, str]]:
    for name in open_clip.list_models():
        yield name, row(name)


def page() -> str:
    import timm

    made = dict(rows())
    tags = {name: len(open_clip.list_pretrained_tags_by_model(name)) for name in made}
    works = [name for name, line in made.items() if line.endswith("| yes |\n")]
    head = HEAD.format(
        version=open_clip.__version__,
        timm=timm.__version__,
        count=len(made),
        tags=sum(tags.values()),
        works=len(works),
        works_tags=sum(tags[name] for name in works),
        share=sum(tags[name] for name in works) / sum(tags.values()),
        relative=f"{RELATIVE:g}",
    )
    return head + "".join(made.values())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
