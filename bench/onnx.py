"""A network's ONNX graphs beside PyTorch on the CPU: are captions the same, and how many images per second?

    python -m bench.onnx --pictures data/dataset/images --count 100

Run in a finished project. Both get pictures that are prepared already, and search as params.yaml says. They
take turns, so that other work on the machine affects both alike; each row is the median of several rounds.
"""

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.rows import device_name
from bench.timing import Work, in_turns
from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.inference.describing import Describer
from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.inference.model_folder import export_model, pipeline_model
from fsgr_model.inference.onnx_captioner import OnnxCaptioner
from fsgr_model.inference.onnx_folder import OnnxFiles
from fsgr_model.runtime.errors import run_command

BATCHES = (1, 10, 50)
ROUNDS = 5


def main() -> None:
    arguments = parse()
    paths = sorted(path for path in arguments.pictures.iterdir() if path.is_file())[-arguments.count :]
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory(prefix="fsgr-onnx-") as place:
        folder = Path(place) / "model"
        export_model(arguments.phase, folder, onnx=True)
        sizes = {file.name: file.stat().st_size for file in sorted(folder.glob("*.onnx"))}
        print(", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()))
        captioners: dict[str, Describer] = {
            "PyTorch": ImageCaptioner(pipeline_model(arguments.phase), device=cpu),
            "onnxruntime": OnnxCaptioner(OnnxFiles(folder)),
        }
    images = [captioners["PyTorch"].prepare(open_rgb(path)) for path in paths]
    compare(captioners, images)
    print(f"on {device_name(cpu)}, {torch.get_num_threads()} threads\n")
    print("| images at once | PyTorch, images/s | onnxruntime, images/s | ratio |\n|---|---|---|---|")
    for batch in BATCHES:
        works: dict[str, Work] = {
            name: partial(caption_all, captioner, images[: max(batch, 20)], batch)
            for name, captioner in captioners.items()
        }
        seconds = in_turns(works, ROUNDS, cpu)
        plain, onnx = (len(images[: max(batch, 20)]) / seconds[name] for name in captioners)
        print(f"| {batch} | {plain:.1f} | {onnx:.1f} | {onnx / plain:.2f} |", flush=True)


def caption_all(captioner: Describer, images: Sequence[Tensor], batch: int) -> list[list[int]]:
    """The words of the best caption of each image, in batches."""
    return [
        described.captions[0].word_ids
        for start in range(0, len(images), batch)
        for described in captioner.describe(images[start : start + batch])
    ]


def compare(captioners: dict[str, Describer], images: Sequence[Tensor]) -> None:
    """Print how many captions are the same, and by how much their log-probabilities differ at most."""
    plain, onnx = (
        [
            each.captions[0]
            for start in range(0, len(images), 50)
            for each in one.describe(images[start : start + 50])
        ]
        for one in captioners.values()
    )
    same = sum(a.word_ids == b.word_ids for a, b in zip(plain, onnx, strict=True))
    apart = max(abs(a.log_probability - b.log_probability) for a, b in zip(plain, onnx, strict=True))
    print(f"{same} of {len(images)} captions are the same; log-probabilities differ by {apart:.2g} at most")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=100, help="how many, the last by name (default 100)")
    parser.add_argument("--phase", choices=["xe", "scst"], default="scst")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
