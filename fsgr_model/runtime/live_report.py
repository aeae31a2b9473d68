"""What a run tells while it trains, for whoever watches: `live.json` in the folder of its resume point.

It is written at every epoch and every few seconds between, whole or absent, and vanishes with the resume
point when the stage ends. It never changes a result.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fsgr_model.runtime.artifacts import save_json

LIVE = "live.json"
SECONDS_BETWEEN = 5.0


class LiveReport:
    """Writes `live.json` into `folder` for the task `name`, which has `epochs` epochs."""

    def __init__(self, folder: Path, name: str, epochs: int) -> None:
        self.folder, self.name, self.epochs = folder, name, epochs
        self.began_at, self.began_done = time.monotonic(), math.nan
        self.written_at = -math.inf

    def is_due(self) -> bool:
        """Whether the last one is some seconds old."""
        return time.monotonic() - self.written_at >= SECONDS_BETWEEN

    def write(
        self,
        done: float,
        history: Sequence[Mapping[str, float]],
        samples: Sequence[tuple[int, str]] = (),
        warnings: Sequence[str] = (),
    ) -> None:
        """Write the file.

        Args:
            done: epochs that are done, with the share of the one under way.
            history: a row per finished epoch.
            samples: captions of the last validation, by image id.
            warnings: what has gone wrong, each with its epoch.
        """
        now = time.monotonic()
        if math.isnan(self.began_done):
            self.began_at, self.began_done = now, done
        since = done - self.began_done
        left = (self.epochs - done) * (now - self.began_at) / since if since > 0 else None
        rows = [
            {key: value if math.isfinite(value) else None for key, value in row.items()} for row in history
        ]
        content = {
            "task": self.name,
            "done": done,
            "epochs": self.epochs,
            "seconds_left": left,
            "history": rows,
            "samples": [{"image_id": image_id, "caption": caption} for image_id, caption in samples],
            "warnings": list(warnings),
        }
        save_json(self.folder / LIVE, content)
        self.written_at = now
