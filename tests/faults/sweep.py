"""Runs the project's commands in a small project, with one call refused: python -m tests.faults.sweep PROJECT.

One process imports everything once; each run is a fork of it in a copy of the project, so that hundreds take
minutes. A line of JSON a run goes to standard output.
"""

import errno
import fcntl
import importlib
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.faults.places import NO, QUESTIONS, REFUSALS, Place, instrument, places

NUMBERS = [
    *map(
        int,
        (errno.EIO, errno.ESTALE, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    ),
    *map(
        int,
        (
            errno.ETXTBSY,
            errno.EBUSY,
            errno.ENOLCK,
            errno.ENOSYS,
            errno.EAGAIN,
            errno.EDEADLK,
            errno.ETIMEDOUT,
        ),
    ),
    *map(
        int,
        (errno.EREMOTEIO, errno.ENODEV, errno.ENXIO, errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    ),
    *map(
        int,
        (
            errno.EMFILE,
            errno.EINVAL,
            errno.ENOMEM,
            errno.EEXIST,
            errno.ENOTEMPTY,
            errno.EXDEV,
            errno.EOPNOTSUPP,
        ),
    ),
    524,  # which Linux uses for itself and lets out at times: no name, "Unknown error 524"
]
Change = Callable[[dict[str, Any], Path], None]


def as_it_is(params: dict[str, Any], project: Path) -> None:
    pass


@dataclass(frozen=True)
class Command:
    """A module of the pipeline with its arguments; what is other in the parameters or the project first."""

    module: str
    arguments: tuple[str, ...] = ()
    change: Change = as_it_is
    locks: bool = True

    def __str__(self) -> str:
        return " ".join(
            [self.module, *self.arguments, "" if self.locks else "(no locks)", self.change.__name__]
        )


@dataclass
class Outcome:
    """How a run ended; `said` is the end of what it wrote."""

    command: str
    code: int
    said: str
    reached: list[Place] = field(default_factory=list)
    refused: Place | None = None
    number: int = 0


def table(params: dict[str, Any], project: Path) -> None:
    rows = [("image", "caption", "split")]
    splits = {11: "train", 12: "train", 13: "train", 14: "train", 21: "val", 31: "test"}
    rows += [(f"{number}.png", "a red dog", split) for number, split in splits.items()]
    text = "\n".join(",".join(row) for row in rows)
    (project / "data/flickr8k/table.csv").write_text(text + "\n", encoding="utf-8")
    params["dataset"].pop("captions")
    params["dataset"] |= {"format": "folder", "table": {"file": "table.csv"}}


def shards(params: dict[str, Any], project: Path) -> None:
    folder = project / "data/flickr8k"
    for split, number in (("train", 11), ("val", 21), ("test", 31)):
        with tarfile.open(folder / f"{split}-0.tar", "w") as archive:
            archive.add(folder / f"images/{number}.png", f"{number}.png")
            caption = tarfile.TarInfo(f"{number}.txt")
            caption.size = len(b"a red dog")
            archive.addfile(caption, io.BytesIO(b"a red dog"))
    params["dataset"].pop("captions")
    params["dataset"] |= {
        "format": "webdataset", "shards": {split: f"{split}-*.tar" for split in ("train", "val", "test")},
    }  # fmt: skip


def clip_folder(params: dict[str, Any], project: Path) -> None:
    config = json.loads((project / "data/clip/clip.json").read_text(encoding="utf-8"))["config"]
    folder = project / "tiny"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    shutil.copy(project / "data/clip/clip.safetensors", folder / "open_clip_model.safetensors")
    params["clip"] |= {"model": "tiny", "pretrained": "folder"}


def clip_file(params: dict[str, Any], project: Path) -> None:
    import torch
    from safetensors.torch import load_file

    clip_folder(params, project)
    torch.save(load_file(project / "data/clip/clip.safetensors"), project / "weights.pt")
    config = json.loads((project / "tiny/open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    (project / "tiny.json").write_text(json.dumps(config))
    params["clip"] |= {"model": "tiny.json", "pretrained": "weights.pt"}


REFERENCES, RESULTS = "references.json", "results.json"
COMMANDS = [
    Command(
        "score",
        ("--references", REFERENCES, "--results", RESULTS, "--meteor", "off", "--by-image", "by.json"),
    ),
    Command(
        "export_results",
        ("--captions", "lines.jsonl", "--images", REFERENCES, "--split", "val2014", "--name", "a"),
    ),
    Command("dataset"),
    Command("dataset", change=table),
    Command("dataset", change=shards),
    Command("clip", change=clip_folder),
    Command("clip", change=clip_file),
    Command("codebook"),
    Command("vocab"),
    Command("features"),
    Command("features", locks=False),
    Command("labels"),
    Command("captions"),
    Command("evaluate"),
    Command("compare", (RESULTS, RESULTS, "--references", REFERENCES)),
    Command("export", ("--phase", "xe", "--out", "model")),
    Command("caption", ("--phase", "xe", "pictures")),
    Command("check", ("--no-timing",)),
    Command("check", ("--no-timing",), shards),
    Command("train_xe"),
    Command("train_scst"),
]


def prepare(project: Path) -> None:
    """Add to a project with a network trained by XE what the other commands need."""
    from tests.datasets.small_dataset import SmallDataset

    SmallDataset(project / "data/flickr8k").write()
    shutil.copytree(project / "data/models/xe", project / "data/models/scst")
    shutil.copy(project / "data/captions/xe.json", project / "data/captions/scst.json")
    shutil.copytree(project / "data/flickr8k/images", project / "pictures")
    images = [{"id": number, "file_name": f"{number}.png"} for number in (1, 2)]
    captions = [{"id": number, "image_id": number, "caption": f"a dog, the {number}."} for number in (1, 2)]
    rows = [{"image_id": number, "caption": "a dog"} for number in (1, 2)]
    (project / REFERENCES).write_text(json.dumps({"images": images, "annotations": captions}))
    (project / RESULTS).write_text(json.dumps(rows))
    lines = [json.dumps({"path": f"x/{number}.png", "caption": "a dog"}) for number in (1, 2)]
    (project / "lines.jsonl").write_text("\n".join(lines) + "\n")
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["xe"] |= {"epochs": 1}
    params["scst"] |= {"epochs": 1}
    params["evaluate"] |= {"meteor": "off"}
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def run(command: Command, project: Path, refused: Place | None = None, number: int = 0) -> Outcome:
    """Run a command in a fork, in a copy of the project."""
    with tempfile.TemporaryDirectory() as scratch:
        copied, said, told = (Path(scratch) / name for name in ("project", "said", "told"))
        shutil.copytree(project, copied)
        params = yaml.safe_load((copied / "params.yaml").read_text(encoding="utf-8"))
        command.change(params, copied)
        (copied / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        child = os.fork()
        if child == 0:
            _be(command, copied, said, told, refused, number)
        _, status = os.waitpid(child, 0)
        reached = [Place(*each) for each in json.loads(told.read_text())] if told.exists() else []
        text = said.read_text(encoding="utf-8", errors="replace")
        return Outcome(str(command), os.waitstatus_to_exitcode(status), text, reached, refused, number)


def _be(command: Command, copied: Path, said: Path, told: Path, refused: Place | None, number: int) -> None:
    """The fork: never returns."""
    code: Any = 0
    try:
        written = os.open(said, os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(written, stream)
        os.chdir(copied)
        os.environ["DVC_ROOT"] = str(copied)
        sys.argv = [command.module, *command.arguments]
        if not command.locks:
            fcntl.flock = _without_locks
        REFUSALS.reached, REFUSALS.refused, REFUSALS.number = [], refused, number
        errors = importlib.import_module("fsgr_model.errors")
        errors.run_command(importlib.import_module(f"pipeline.{command.module}").main)
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr, flush=True)
            code = 1
    except BaseException:  # noqa: BLE001 - the test looks at it
        import traceback

        traceback.print_exc()
        code = 70
    finally:
        sys.stdout.flush()
        told.write_text(json.dumps([list(asdict(place).values()) for place in REFUSALS.reached]))
        os._exit(int(code or 0))


def _without_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def load_all() -> None:
    """Import the project once for all runs."""
    instrument()
    import torch

    torch.set_num_threads(1)
    for file in {place.file for place in places()} | {
        f"pipeline/{command.module}.py" for command in COMMANDS
    }:
        importlib.import_module(file.removesuffix(".py").replace("/", "."))
    importlib.import_module("fsgr_model.inference")


def sweep(project: Path, numbers: list[int]) -> Iterator[Outcome]:
    """The commands as they are; then each place refused with each error, in the first command that comes to it."""
    command_of: dict[Place, Command] = {}
    for command in COMMANDS:
        plain = run(command, project)
        yield plain
        for place in plain.reached:
            command_of.setdefault(place, command)
    for place, command in command_of.items():
        for number in numbers:
            # Of a question these are the answer no, which Path gives.
            if not (place.call.rpartition(".")[2] in QUESTIONS and number in NO):
                yield run(command, project, place, number)


if __name__ == "__main__":
    load_all()
    here = Path(sys.argv[1])
    prepare(here)
    for outcome in sweep(here, [int(text) for text in sys.argv[2:]] or NUMBERS):
        print(json.dumps(asdict(outcome)), flush=True)
