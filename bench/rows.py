"""Rows of a benchmark: a printed table, JSON that runs are compared by, and tables of docs/experiments/."""

import platform
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bench.limits import Limits
from fsgr_model.runtime.artifacts import load_json, save_json, whole_file
from fsgr_model.runtime.errors import UserError

COLUMNS = ("what", "measured", "share of the limit", "compared", "aim")


@dataclass(frozen=True)
class Row:
    """A measured rate or other number.

    `fraction`: the share, 0 to 1, of `limit` that is reached (a name such as "matmul").
    `ratio`: how many times faster than `than`, which did the same work in the same run.
    `aim`: the target, in words; empty where there is none.
    """

    what: str
    value: float
    unit: str
    fraction: float | None = None
    limit: str = ""
    ratio: float | None = None
    than: str = ""
    aim: str = ""

    def cells(self) -> list[str]:
        """The row as text, in the order of `COLUMNS`."""
        share = "" if self.fraction is None else f"{self.fraction:.0%} of {self.limit}"
        compared = "" if self.ratio is None else f"{self.ratio:.3g} x {self.than}"
        return [self.what, f"{number(self.value)} {self.unit}", share, compared, self.aim]


def publish(
    bench: str, rows: Sequence[Row], limits: Limits, device: torch.device, *, out: Path, page: Path | None
) -> None:
    """Print the table, replace this benchmark's entry in the JSON file `out`, and its table in `page`.

    The entry is named after the benchmark: `xe_step`, or `xe_step on cuda`, so that both can be kept.

    Args:
        bench: the name of the module, such as "xe_step".
        page: a Markdown file, with or without the lines `<!-- xe_step -->` and `<!-- /xe_step -->`; or None.
    """
    entry = bench if device.type == "cpu" else f"{bench} on {device.type}"
    result = {
        "command": shlex.join(["python", "-m", f"bench.{bench}", *sys.argv[1:]]),
        "device": device_name(device),
        "limits": asdict(limits),
        "rows": [asdict(row) for row in rows],
    }
    print(markdown(result), flush=True)
    known: dict[str, Any] = load_json(out) if out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_json(out, {**known, entry: result})
    if page is not None:
        put_into_page(page, entry, markdown(result))


def markdown(result: dict[str, Any]) -> str:
    """One benchmark's entry of the JSON file as Markdown: command, device, limits, table."""
    rows = [Row(**row).cells() for row in result["rows"]]
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *rows]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    head = f"`{result['command']}` on {result['device']}\n\n{Limits(**result['limits']).describe()}"
    return f"{head}\n\n{table}"


def put_into_page(page: Path, entry: str, text: str) -> None:
    """Replace the text between the two marks of an entry; without marks it gets a section at the end.

    Raises:
        UserError: the page has only one of the marks, or has them in the wrong order.
    """
    first, last = f"<!-- {entry} -->", f"<!-- /{entry} -->"
    content = page.read_text(encoding="utf-8")
    if first not in content and last not in content:
        content = f"{content.rstrip()}\n\n## {entry}\n\n{first}\n{last}\n"
    before, mark, rest = content.partition(first)
    _, end, after = rest.partition(last)
    if not (mark and end):
        raise UserError(f"{page} must have both lines {first} and {last}, between which the table goes")
    with whole_file(page) as partial:
        partial.write_text(f"{before}{first}\n{text}\n{last}{after}", encoding="utf-8")


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's and the number of threads that PyTorch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} threads"


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def number(value: float) -> str:
    """Three significant digits; whole numbers with separators from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def interval(ratios: Sequence[float], digits: int = 2) -> str:
    """Median of paired ratios, and the range of all but the two extremes."""
    inner = sorted(ratios)[1:-1] or ratios
    return f"{statistics.median(ratios):.{digits}f} ({min(inner):.{digits}f} to {max(inner):.{digits}f})"
