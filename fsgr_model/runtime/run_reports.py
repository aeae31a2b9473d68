"""Tells other tools the numbers of a run while it trains: TensorBoard, DVCLive, Weights & Biases.

They get the rows of the curve, epoch by epoch; TensorBoard gets captions of the validation and the sample
sheet besides. A run that goes on after an end tells its whole history again, in place of what it told before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, get_args

from fsgr_model.runtime.artifacts import project_root
from fsgr_model.runtime.errors import UserError, needing_extra

Tool = Literal["tensorboard", "dvclive", "wandb"]
TOOLS: tuple[Tool, ...] = get_args(Tool)
Row = Mapping[str, float]
Samples = Sequence[tuple[int, str]]


class Report(Protocol):
    """One tool that is told of one run."""

    def epoch(self, number: int, numbers: Row) -> None:
        """The numbers of a finished epoch."""

    def captions(self, epoch: int, samples: Samples) -> None:
        """Captions of the validation after the last epoch so far, by image id."""

    def close(self) -> None:
        """The run has ended."""


class Reports:
    """All tools that are told of a run."""

    def __init__(self, tools: Sequence[Report]) -> None:
        self.tools = tools
        self.told = 0

    def tell(self, history: Sequence[Row], samples: Samples = ()) -> None:
        """Tell the epochs that this process has not told yet."""
        for row in history[self.told :]:
            for tool in self.tools:
                tool.epoch(int(row["epoch"]), {key: value for key, value in row.items() if key != "epoch"})
        self.told = len(history)
        for tool in self.tools:
            tool.captions(int(history[-1]["epoch"]), samples)


@contextmanager
def reports(names: Sequence[Tool], run: str) -> Iterator[Reports]:
    """The tools of these names, told of the run called `run` until the block ends.

    Raises:
        UserError: a tool is not installed, or refuses to begin; the message says what to do.
    """
    kinds: dict[Tool, Callable[[str], Report]] = {
        "tensorboard": TensorBoardReport,
        "dvclive": DvcLiveReport,
        "wandb": WandbReport,
    }
    with ExitStack() as stack:
        tools: list[Report] = []
        for name in dict.fromkeys(names):
            tools.append(kinds[name](run))
            stack.callback(tools[-1].close)
        yield Reports(tools)


def check_installed(names: Sequence[Tool]) -> None:
    """Find out before a long run whether its tools are there.

    Raises:
        UserError: one is not installed; the message has the command that installs it.
    """
    for name in names:
        if find_spec(name) is None:
            raise UserError(
                f'runtime.report_to: {name} is not installed: pip install "fsgr-captioning[{name}]"'
            )


class TensorBoardReport:
    """Events in `runs/RUN`: `tensorboard --logdir runs`."""

    def __init__(self, run: str) -> None:
        with needing_extra("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        # What an earlier process told of this run is not shown beside it.
        self.writer = SummaryWriter(str(project_root() / "runs" / run), purge_step=0)

    def epoch(self, number: int, numbers: Row) -> None:
        for key, value in numbers.items():
            self.writer.add_scalar(key, value, number)
        self.writer.flush()

    def captions(self, epoch: int, samples: Samples) -> None:
        if samples:
            lines = [f"- {image_id}: {caption}" for image_id, caption in samples]
            self.writer.add_text("captions", "\n".join(lines), epoch)
            self.writer.flush()

    def sheet(self, path: Path) -> None:
        """The sample sheet, as a picture."""
        # Every command imports this module with the parameters; few show a picture.
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            self.writer.add_image("sheet", np.asarray(picture.convert("RGB")), 0, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class DvcLiveReport:
    """Metrics in `dvclive/RUN`, which DVC's extension of VS Code and `dvclive` users look at."""

    def __init__(self, run: str) -> None:
        with needing_extra("dvclive"):
            from dvclive import Live
        # The pipeline has a dvc.yaml, and DVC itself saves experiments.
        folder = str(project_root() / "dvclive" / run)
        self.live = Live(folder, save_dvc_exp=False, dvcyaml=None, report=None)

    def epoch(self, number: int, numbers: Row) -> None:
        self.live.step = number
        for key, value in numbers.items():
            self.live.log_metric(key, value)
        self.live.make_summary()

    def captions(self, epoch: int, samples: Samples) -> None:
        """Its metrics are numbers."""

    def close(self) -> None:
        self.live.end()


class WandbReport:
    """A run of Weights & Biases; its own variables (WANDB_PROJECT, WANDB_MODE) say where."""

    def __init__(self, run: str) -> None:
        with needing_extra("wandb"):
            import wandb
        try:
            self.run = wandb.init(id=run, name=run, resume="allow", dir=str(project_root()))
        except wandb.Error as error:
            raise UserError(
                f"runtime.report_to: wandb does not begin: {error}; run wandb login, or set "
                "WANDB_MODE=offline"
            ) from None

    def epoch(self, number: int, numbers: Row) -> None:
        # Of a run that goes on, W&B has the first epochs already, and takes no step twice.
        if number >= self.run.step:
            # Committed at once, or an epoch would be seen only when the next one ends.
            self.run.log(dict(numbers), step=number, commit=True)

    def captions(self, epoch: int, samples: Samples) -> None:
        """The same numbers as the curve, no more."""

    def close(self) -> None:
        self.run.finish()


def report_sheet(names: Sequence[Tool], path: Path) -> None:
    """Show the sample sheet in TensorBoard, if it is told of runs.

    Raises:
        UserError: it is not installed.
    """
    if "tensorboard" in names:
        report = TensorBoardReport("evaluate")
        report.sheet(path)
        report.close()
