"""Takes the pictures of the page that the docs show: python docs/images/draw_page.py http://127.0.0.1:8765/

`fsgr page` must be running in a finished demo project. CHROMIUM names the browser, if it is not `chromium`.
"""

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
PICTURE = "data/dataset/images/004202.png"


def show_try(page: Page) -> None:
    page.set_input_files("input[type=file]", PICTURE)
    page.locator(".word").nth(2).hover()


def show_look(page: Page) -> None:
    page.locator(".tile img").first.wait_for()


def show_compare(page: Page) -> None:
    page.get_by_role("button", name="Compare").click()
    page.locator(".changed img").first.wait_for()


def show_train(page: Page) -> None:
    page.locator(".plot").first.wait_for()


TABS = {"try": show_try, "look": show_look, "compare": show_compare, "train": show_train}


def main(address: str) -> None:
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for tab, show in TABS.items():
            page = browser.new_page(viewport={"width": 1100, "height": 740})
            page.goto(f"{address}#{tab}")
            show(page)
            page.wait_for_timeout(1000)
            taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            taken.quantize(256, dither=Image.Dither.NONE).save(HERE / f"page_{tab}.png", optimize=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
