"""The page under load: 1,000 pictures by 16 clients, batches across requests, 20,000 images in the browser.

    python -m bench.page --model model --pictures data/dataset/images
    python -m bench.page --model model --pictures data/dataset/images --grid --chromium /usr/bin/chromium

Without --grid: a server of its own in another process gets 1,000 pictures, first one after the other, then by
16 clients at once; then 200 by 100 clients, of which some must be refused (32 may wait). Printed are
pictures/s, the times of answers, the refusals, and the memory of the server before and after.
With --grid: the tab Look over 20,000 made-up rows is scrolled, as one reads and from end to end, and frames
are counted.
"""

import argparse
import asyncio
import io
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
from PIL import Image

from fsgr_model.runtime.errors import run_command

REQUESTS, CLIENTS, CROWD = 1000, 16, 100
ROWS = 20_000


def main() -> None:
    arguments = parse()
    pictures = [path.read_bytes() for path in sorted(arguments.pictures.iterdir())[:200]]
    with server(arguments.model) as (address, process):
        if arguments.grid:
            print(json.dumps(scrolled(address, arguments.chromium)))
            return
        asyncio.run(load(address, pictures[:50], clients=1, requests=50))  # caches and threads are warm
        before = process.memory_info().rss
        for clients, requests in ((1, REQUESTS), (CLIENTS, REQUESTS), (CROWD, 2 * CROWD)):
            print(asyncio.run(load(address, pictures, clients=clients, requests=requests)), flush=True)
            print(f"  memory {before / 1e6:.0f} MB before, {process.memory_info().rss / 1e6:.0f} MB now")


@contextmanager
def server(model: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`fsgr page` in a process of its own."""
    command = [sys.executable, "-m", "fsgr_model", "page", "--model", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None, "it is a pipe"
        try:
            yield running.stdout.readline().split()[1], psutil.Process(running.pid)
        finally:
            running.terminate()
            running.wait(30)


async def load(address: str, pictures: list[bytes], *, clients: int, requests: int) -> str:
    """Send pictures by so many clients, each of which waits for its answer; a line of results."""
    left = iter(range(requests))
    seconds: list[float] = []
    statuses: Counter[int] = Counter()
    without_when = 0

    async def one(client: httpx2.AsyncClient) -> None:
        nonlocal without_when
        for number in left:
            start = time.perf_counter()
            answer = await client.post("api/caption", content=pictures[number % len(pictures)])
            seconds.append(time.perf_counter() - start)
            statuses[answer.status_code] += 1
            without_when += answer.status_code == 503 and "retry-after" not in answer.headers

    limits = httpx2.Limits(max_connections=clients)
    start = time.perf_counter()
    async with httpx2.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        await asyncio.gather(*[one(client) for _ in range(clients)])
    took = time.perf_counter() - start
    ordered = sorted(seconds)
    assert len(ordered) == requests and not without_when
    return (
        f"{clients} clients, {requests} pictures: {statuses[200] / took:.1f} captioned/s, median "
        f"{1000 * statistics.median(ordered):.0f} ms, p95 {1000 * ordered[int(0.95 * requests)]:.0f} ms, "
        f"longest {1000 * ordered[-1]:.0f} ms, statuses {dict(statuses)}"
    )


def scrolled(address: str, executable: str | None) -> dict[str, Any]:
    """Scroll the grid of 20,000 rows by 10 screens in 10 s, then from top to bottom in 10 s."""
    from playwright.sync_api import Route, sync_playwright

    picture = drawn()
    rows = {
        "phase": "xe",
        "image_ids": list(range(1, ROWS + 1)),
        "captions": [f"a brown dog and a red kite number {row} at the beach" for row in range(ROWS)],
        "domains": ["seen", "unseen"] * (ROWS // 2),
        "versions": ["0"] * ROWS,
        "scores": {"CIDEr": [(7919 * row % 1000) / 300 for row in range(ROWS)]},
        "invented": [[] for _ in range(ROWS)],
    }
    about = {"title": "made up", "decode": None, "most_bytes": 1, "phases": ["xe"], "project": True}

    def answer(route: Route) -> None:
        url = route.request.url
        if "/api/picture/" in url:
            route.fulfill(body=picture, content_type="image/jpeg")
        elif "/api/look/" in url or "/api/about" in url:
            route.fulfill(json=rows if "look" in url else about)
        else:
            route.continue_()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.route("**/*", answer)
        page.goto(f"{address}#look")
        page.wait_for_selector(".tile")
        tiles = page.locator(".tile").count()
        found: dict[str, Any] = {"rows": ROWS, "tiles at once": tiles}
        for screens in (10, None):
            times = page.evaluate(SCROLL, screens)
            found[f"{screens} screens" if screens else "all"] = frames(times)
        browser.close()
    return found


def frames(times: list[float]) -> dict[str, float]:
    """Frames per second, and the slow ones, from the milliseconds at which frames were drawn."""
    steps = sorted(after - before for before, after in pairwise(times))
    return {
        "frames per second": round(1000 * len(steps) / (times[-1] - times[0]), 1),
        "p95 of a frame, ms": round(steps[int(0.95 * len(steps))], 1),
        "longest frame, ms": round(steps[-1], 1),
    }


def drawn() -> bytes:
    """A thumbnail of noise, about as large as that of a photograph."""
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).resize((224, 168)).save(written, "JPEG", quality=50)
    return written.getvalue()


# 10 s of scrolling from the top by so many screens (null: to the bottom); the times of all frames.
SCROLL = """(screens) => new Promise((done) => {
  const grid = document.querySelector(".grid");
  const times = [];
  const way = screens ? screens * grid.clientHeight : grid.scrollHeight - grid.clientHeight;
  const frame = (now) => {
    times.push(now);
    const share = (now - times[0]) / 10000;
    grid.scrollTop = share * way;
    if (share < 1) requestAnimationFrame(frame);
    else done(times);
  };
  requestAnimationFrame(frame);
})"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a folder that fsgr export wrote")
    parser.add_argument("--pictures", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--grid", action="store_true", help="scroll 20,000 images in Chromium instead")
    parser.add_argument("--chromium", metavar="FILE", help="the browser of --grid")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
