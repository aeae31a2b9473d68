"""The README.md of an exported network: scores, what it was trained on, how to use it."""

from typing import Any

from fsgr_model.config.params import Params

PHASE_NAMES = {"xe": "cross-entropy", "scst": "cross-entropy, then self-critical training on CIDEr-D"}
HEAD = """---
pipeline_tag: image-to-text
library_name: fsgr-captioning
tags: [image-captioning, clip, fsgr]
---

# FSGR captioner

An image-captioning network after FSGR (IEEE TCSVT 2025) on {clip}, trained by {phase}.

```
fsgr caption --model <this folder> photo.jpg folder/
```

captions pictures where the project that made it is installed (`pip install {what}` in its
checkout{revision}), and so does Python:

```python
import fsgr_model

model = fsgr_model.load("<this folder>")
print(model.caption("photo.jpg"))
```

Nothing else is needed, no network connection either. Images of any size and colour mode are {resize}.
"""
GRAPHS = """## The graphs

Each is float32, and any runtime for ONNX can run it. B images, S captions per image, P words read before.

- `trunk.onnx`: `images` [B, 3, height, width], prepared as `onnx.json` says, to `tokens`.
- `tail.onnx`: `tokens` to `concepts` of the patches, and for each layer of the decoder `image_keys_0`,
  `image_values_0`, ...
- `step.onnx`: `words` [B, S] int64, what the tail made but the concepts, and for each layer `word_keys_0`,
  `word_values_0`, ... [B, S, heads, P, width] to `logits` [B, S, words] and `new_word_keys_0`,
  `new_word_values_0`, ... of P + 1 words.

A caption begins with word 2 (`<bos>`, P = 0) and ends with word 3 (`<eos>`); words 0, 1 and 2 are never said.
The scores below are those of the network in PyTorch.
"""
RESIZED = {
    "squash": "resized to a square of {size} pixels, whatever their shape",
    "shortest": "resized by their shortest side and cropped to the {size} pixels in their middle",
}


def model_card(
    phase: str,
    scores: dict[str, Any],
    dataset: dict[str, Any],
    clip: dict[str, Any],
    *,
    params: Params,
    onnx: bool = False,
) -> str:
    """Markdown, from the metrics file, the dataset's report, `clip.json` and the parameters of the run.

    Args:
        onnx: the folder has ONNX graphs in place of weights.
    """
    facts = {fact["what"]: fact["value"] for fact in scores["provenance"]}
    preprocessing = clip["preprocessing"]
    head = HEAD.format(
        clip=f"CLIP `{clip['model']}`",
        phase=PHASE_NAMES[phase],
        what='".[onnx]"' if onnx else ".",
        revision=f", revision `{facts['git revision']}`" if "git revision" in facts else "",
        resize=RESIZED[preprocessing["resize_mode"]].format(size=preprocessing["size"]),
    )
    parts = [head, *([GRAPHS] if onnx else [])]
    parts += [_scores(scores, params), _training(dataset, clip, params), _limits(), _provenance(facts)]
    return "\n".join(parts)


def _scores(scores: dict[str, Any], params: Params) -> str:
    """One row per number: those of all images first, then those of each domain."""
    # The scores of an ensemble are not those of the one network that is exported.
    groups = {name: each for name, each in scores.items() if isinstance(each, dict) and name != "ensemble"}
    plain = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    rows = [f"| {name} | {value:.4g} |" for name, value in plain.items() if name != "images"]
    for group, values in groups.items():
        rows += [f"| {group}: {name} | {_shown(value)} |" for name, value in values.items()]
    decode = params.decode
    drawn = decode.sampling
    way = f"{drawn.samples} samples" if drawn else f"beam size {decode.beam_size}"
    wishes = decode.model_dump(include={"length", "words", "groups", "sampling"}, exclude_none=True)
    way += f" (decode: {wishes})" if wishes else ""
    return (
        f"## Scores\n\nOf the {scores['images']} test images, {way}, at most "
        f"{decode.max_length} positions. Fractions; CIDEr 1.0 is 100 in tables.\n\n"
        "| score | value |\n|---|---|\n" + "\n".join(rows) + "\n\n" + _omitted(scores)
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:.4g}" for name, number in value.items())
    return f"{value:.4g}"


def _omitted(scores: dict[str, Any]) -> str:
    return "".join(f"- {each['metric']} was not measured: {each['reason']}.\n" for each in scores["omitted"])


def _training(dataset: dict[str, Any], clip: dict[str, Any], params: Params) -> str:
    splits = [
        f"| {name} | {counts['images']} | {counts['captions']} |"
        for name, counts in dataset["splits"].items()
    ]
    origin = ", ".join(f"{name}: {value}" for name, value in clip["origin"].items())
    return (
        f"## Trained on\n\nThe training split of a dataset in format `{params.dataset.format}`; the best "
        "epoch was chosen on its validation split.\n\n"
        "| split | images | captions |\n|---|---|---|\n" + "\n".join(splits) + "\n\n"
        f"CLIP's weights: {origin or 'unknown'}. All parameters: `params.yaml`.\n"
    )


def _limits() -> str:
    return (
        "## Limits\n\nIt says what its training captions taught, in their words and with their prejudices; "
        "of pictures unlike theirs it names things that are not there. CHAIR above, where it was measured, "
        "says how often that happened on its own test images.\n"
    )


def _provenance(facts: dict[str, str]) -> str:
    rows = [f"| {what} | {value} |" for what, value in facts.items()]
    return "## Where the numbers come from\n\n| what | value |\n|---|---|\n" + "\n".join(rows) + "\n"
