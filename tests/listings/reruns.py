"""What runs again after a change, in docs/explanation/reruns.md: python -m tests.listings.reruns

A stage runs again where a module that it imports has changed, and a stage after it only where an output of it
has other bytes. So the table says which stages run at once; what follows them is DVC's to find.
"""

from tests.listings.stage_deps import PAGE as DVC
from tests.listings.stage_deps import ROOT, WITHOUT_EFFECT, stages

PAGE = ROOT / "docs" / "explanation" / "reruns.md"
HEAD = """# What runs again after a change

`dvc repro` runs a stage again where one of its parameters, its inputs or the modules behind it changed
(`dvc.yaml` lists them; `python -m tests.listings.stage_deps --write` writes the list from the imports). A
stage after it runs only if an output that it reads has other bytes: a new prompt template runs `codebook` at
once, and the label maps and the training after it only where the codebook came out otherwise.

Written by `python -m tests.listings.reruns`; a test compares it with `dvc.yaml`.

| touch | for | these stages run at once |
|---|---|---|
"""
ROWS = {
    "fsgr_model/datasets/coco.py": "a reader of COCO's files",
    "fsgr_model/datasets/demo/sprites.py": "the demo's pictures",
    "fsgr_model/text/ptb_tokenizer.py": "the tokenizer",
    "fsgr_model/clip/text_embeddings.py": "a prompt template",
    "fsgr_model/clip/concepts.py": "how concepts are read",
    "fsgr_model/clip/maskclip.py": "label maps",
    "fsgr_model/clip/sources.py": "where a CLIP comes from",
    "fsgr_model/training/clip_training.py": "the losses of the CLIP trained here",
    "fsgr_model/network/decoder.py": "the decoder",
    "fsgr_model/training/xe.py": "the cross-entropy loss",
    "fsgr_model/training/alignment.py": "a loss beside it",
    "fsgr_model/training/scst.py": "the self-critical loss",
    "fsgr_model/scoring/device_cider_d.py": "the reward on a GPU",
    "fsgr_model/scoring/cider_d.py": "CIDEr-D, of the validation and of the reward",
    "fsgr_model/scoring/document_frequencies.py": "its document frequencies",
    "fsgr_model/training/loop.py": "the training loop",
    "fsgr_model/inference/decoding.py": "greedy decoding and sampling, of validation and of SCST",
    "fsgr_model/inference/beam_search.py": "the beam search",
    "fsgr_model/inference/captioning.py": "captions of a split",
    "fsgr_model/scoring/report.py": "a score",
    "fsgr_model/reporting/sample_sheet.py": "the sample sheet",
    "fsgr_model/kernels/dropout.py": "the faster dropout",
    "fsgr_model/kernels/onednn_layers.py": "the faster linear layers",
    "fsgr_model/runtime/row_store.py": "files, locks, messages, progress: all of `runtime/`",
    "fsgr_model/config/params.py": "what a parameter may be: all of `config/`",
}


def stages_behind(module: str) -> list[str]:
    """The stages that list a module among their dependencies, in their order."""
    every = stages(DVC.read_text(encoding="utf-8"))
    return [name for name, stage in every.items() if module in stage["deps"]]


def page() -> str:
    rows = []
    for module, what in ROWS.items():
        assert (ROOT / module).exists(), module
        found = ", ".join(f"`{name}`" for name in stages_behind(module))
        assert found or module.startswith(WITHOUT_EFFECT), module
        rows.append(f"| `{module}` | {what} | {found or 'none'} |\n")
    return HEAD + "".join(rows)


def main() -> None:
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
