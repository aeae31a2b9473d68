"""The page in a real browser: every tab, keyboard alone, narrow and dark, bad pictures, a server that stops.

They run where a Chromium is installed (`apt-get install chromium`): make test-browser.
"""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="fsgr page needs the extra `page`")
pytest.importorskip("playwright", reason="the browser is driven by playwright")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.inference.model_folder import pipeline_model
from fsgr_model.page.app import Served
from fsgr_model.page.captions import Limits
from fsgr_model.page.project import Project
from fsgr_model.runtime.artifacts import load_json, save_json
from fsgr_model.runtime.live_report import LIVE, LiveReport
from tests.page.browser import Running, Watched, chromium, find_chromium, opened, running

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: apt-get install chromium"),
]
TABS = ("try", "look", "compare", "train")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(project: Path, scored: Path) -> Served:
    """The network of one small project over the results of the other; both have the same pictures."""
    captioner = ImageCaptioner(pipeline_model("xe", project))
    (scored / "plots").mkdir(exist_ok=True)
    rows = "".join(f"{epoch}\t{epoch / 10}\n" for epoch in range(12))
    (scored / "plots" / "scst.tsv").write_text("epoch\treward\n1\t0.5\n")
    (scored / "plots" / "xe.tsv").write_text("epoch\tval_CIDEr\n" + rows)
    return Served("small", captioner, Project(scored), Limits(pixels=2_000_000))


@pytest.fixture(scope="module")
def here(served: Served) -> Iterator[Running]:
    with running(served) as run:
        yield run


@pytest.fixture
def watched(browser: Browser, here: Running) -> Iterator[Watched]:
    with opened(browser, here.address) as watched:
        yield watched


def jpeg(size: tuple[int, int], orientation: int | None = None) -> bytes:
    """A picture that is red on the left and blue on the right, as it is stored."""
    picture = Image.new("RGB", size, "blue")
    picture.paste("red", (0, 0, size[0] // 2, size[1]))
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    written = io.BytesIO()
    picture.save(written, "JPEG", exif=exif)
    return written.getvalue()


def choose(watched: Watched, name: str, content: bytes, kind: str = "image/jpeg") -> None:
    watched.page.set_input_files("input[type=file]", {"name": name, "mimeType": kind, "buffer": content})


def painted(watched: Watched) -> int:
    """How many pixels of the layer over the picture are not transparent."""
    return watched.page.evaluate(
        "() => { const c = document.querySelector('.picture canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return d.filter((value, place) => place % 4 === 3 && value > 0).length; }"
    )


def test_a_picture_is_captioned_and_its_words_show_where_the_network_looked(watched: Watched) -> None:
    page = watched.page
    choose(watched, "both.jpg", jpeg((80, 60)))
    expect(page.locator(".word").first).to_be_visible()
    assert painted(watched) == 0
    page.locator(".word").nth(1).hover()
    assert painted(watched) > 0
    page.get_by_role("heading", name="FSGR").hover()
    assert painted(watched) == 0
    page.get_by_label("label map").check()
    assert painted(watched) > 0
    expect(page.locator(".legend li").first).to_be_visible()
    page.get_by_label("captions").select_option("draw")
    page.get_by_label("samples").fill("4")
    choose(watched, "again.jpg", jpeg((80, 60)))
    expect(page.locator(".card").first.locator(".caption")).to_have_count(4)
    watched.check()


def test_wishes_are_obeyed(watched: Watched) -> None:
    page = watched.page
    page.get_by_label("how many").fill("3")
    page.get_by_text("What captions must and must not be").click()
    page.get_by_label("begin with").fill("white")
    page.get_by_label("most words").fill("3")
    choose(watched, "wishes.jpg", jpeg((80, 60)))
    captions = page.locator(".card .caption")
    expect(captions).to_have_count(3)
    for caption in captions.all():
        words = caption.locator(".word").all_inner_texts()
        assert words[0].startswith("white") and len(words) <= 3
    page.get_by_label("must contain").fill("zebra, red")
    choose(watched, "zebra.jpg", jpeg((80, 60)))
    expect(page.locator(".card").first.locator(".bad")).to_contain_text("'zebra' is not among the model's")
    page.get_by_label("captions").select_option("draw")
    expect(page.get_by_label("must contain")).to_be_hidden()
    watched.check(allowed=("422",))


def test_a_part_of_the_picture_is_drawn_or_typed(watched: Watched) -> None:
    page = watched.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/caption" in request.url else None)
    choose(watched, "part.jpg", jpeg((400, 400)))
    expect(page.locator(".word").first).to_be_visible()
    watched.quiet()
    box = page.locator(".picture").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.25)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.75)
    page.mouse.up()
    expect(page.locator(".region[open] summary")).to_be_focused()
    part = [float(each) for each in asked[-1].split("region=")[1].split(",")]
    assert part == pytest.approx([0.5, 0.25, 0.75, 0.75], abs=0.01)
    expect(page.locator(".frame")).to_be_visible()
    watched.quiet()
    page.locator(".word").first.hover()
    left_half = (
        "() => { const c = document.querySelector('.picture canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width / 4, c.height).data;"
        "return d.filter((value, place) => place % 4 === 3 && value < 215).length; }"
    )
    assert page.evaluate(left_half) == 0, "nothing is lit beside the part"
    page.get_by_label("left").fill("0")
    page.get_by_label("left").press("Tab")
    page.get_by_role("button", name="caption this part").press("Enter")
    expect(page.locator(".region[open] summary")).to_be_focused()
    page.get_by_role("button", name="the whole picture").press("Enter")
    expect(page.locator(".region[open]")).to_have_count(0)
    assert "region" not in asked[-1]
    watched.check()


def test_pictures_can_be_dropped_and_pasted(watched: Watched) -> None:
    page = watched.page
    for event, place in (("drop", ".drop"), ("paste", "body")):
        page.evaluate(
            """([bytes, event, place]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], `${event}.jpg`, { type: "image/jpeg" }));
                const made = event === "drop"
                    ? new DragEvent(event, { dataTransfer: data, bubbles: true, cancelable: true })
                    : new ClipboardEvent(event, { clipboardData: data, bubbles: true });
                document.querySelector(place).dispatchEvent(made);
            }""",
            [list(jpeg((20, 20))), event, place],
        )
        expect(page.get_by_text(f"{event}.jpg, 20 × 20")).to_be_visible()
    watched.check()


def test_a_rotated_picture_and_its_layer_are_upright(watched: Watched) -> None:
    """EXIF orientation 6: the camera was held upright, so 80 x 60 is shown as 60 x 80."""
    choose(watched, "turned.jpg", jpeg((80, 60), orientation=6))
    expect(watched.page.get_by_text("turned.jpg, 60 × 80")).to_be_visible()
    watched.quiet()
    box, layer = (watched.page.locator(f".picture {name}").bounding_box() for name in ("img", "canvas"))
    assert box and layer and box["height"] > box["width"]
    assert all(abs(box[side] - layer[side]) < 2 for side in ("x", "y", "width", "height"))
    watched.check()


def test_bad_pictures_are_told_and_the_next_one_is_captioned(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    choose(watched, "broken.jpg", jpeg((80, 60))[:-200])
    expect(page.get_by_text("broken.jpg: image that was sent: cannot be decoded")).to_be_visible()
    choose(watched, "huge.jpg", jpeg((1500, 1400)))
    expect(page.get_by_text("1500 x 1400 pixels, more than 2000000")).to_be_visible()
    (tmp_path / "long.jpg").write_bytes(bytes(20_000_001))
    page.set_input_files("input[type=file]", tmp_path / "long.jpg")
    expect(page.get_by_text("long.jpg: 20000001 bytes; a picture may have 20000000")).to_be_visible()
    choose(watched, "notes.txt", b"hello", "text/plain")
    expect(page.get_by_text("notes.txt: image that was sent: not an image")).to_be_visible()
    choose(watched, "good.jpg", jpeg((30, 30)))
    expect(page.get_by_text("good.jpg, 30 × 30")).to_be_visible()
    watched.check(allowed=("status of 415",))


def test_the_test_split_is_sorted_filtered_and_opened(watched: Watched, here: Running) -> None:
    page = watched.page
    page.goto(f"{here.address}#look")
    expect(page.get_by_text("12 of 12 pictures")).to_be_visible()
    scores = [float(text) for text in page.locator(".tile .score").all_inner_texts()]
    assert len(scores) == 12 and scores == sorted(scores)
    page.get_by_label("order").select_option("down")
    assert [float(text) for text in page.locator(".tile .score").all_inner_texts()] == scores[::-1]
    page.get_by_label("object named wrongly").select_option("blue")
    left = page.locator(".tile").count()
    assert 0 < left < 12 and all("blue" in text for text in page.locator(".tile p").all_inner_texts())
    page.get_by_label("words in the caption").fill("nothing of the kind")
    expect(page.get_by_text("0 of 12 pictures")).to_be_visible()
    page.goto(f"{here.address}#look/143")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Picture 143")).to_be_visible()
    dialog.get_by_text("Where did the network look?").click()
    expect(dialog.locator(".word").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page).to_have_url(re.compile(r"#look$"))
    watched.check()


def test_an_address_without_a_picture_is_told(browser: Browser, here: Running) -> None:
    with opened(browser, f"{here.address}#look/77") as watched:
        expect(watched.page.get_by_text("there is nothing of this name or id")).to_be_visible()
        watched.check(allowed=("status of 404",))


def test_two_runs_are_compared(watched: Watched, here: Running) -> None:
    page = watched.page
    page.goto(f"{here.address}#compare")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("row", name="CIDEr").first).to_be_visible()
    assert page.locator(".changed mark").count() > 0
    watched.check()


def test_curves_and_runs_under_way(watched: Watched, here: Running, scored: Path) -> None:
    page = watched.page
    folder = scored / ".resume" / "train_xe-seen"
    folder.mkdir(parents=True, exist_ok=True)
    warned = ["epoch 1: the gradient of every step was 0"]
    LiveReport(folder, "XE", epochs=4).write(1.5, [{"epoch": 1, "loss": 2.5}], [(141, "a red wall")], warned)
    page.goto(f"{here.address}#train")
    expect(page.get_by_role("img", name="xe: val_CIDEr by epoch: workspace ends at 1.1")).to_be_visible()
    expect(page.get_by_text("1.5 of 4 epochs; time left unknown")).to_be_visible()
    one = page.get_by_role("img", name="scst: reward by epoch")
    assert one.locator("text[text-anchor=middle]").all_text_contents() == ["1"], "of its only epoch"
    expect(page.get_by_text("141: a red wall")).to_be_visible()
    expect(page.get_by_text(warned[0])).to_be_visible()
    save_json(folder / LIVE, load_json(folder / LIVE) | {"done": 2.0})
    expect(page.get_by_text("2.0 of 4 epochs")).to_be_visible()
    (folder / LIVE).unlink()
    expect(page.get_by_text("No run is under way.")).to_be_visible()
    watched.check()


def test_the_keyboard_alone_is_enough(watched: Watched) -> None:
    """Tab to Look, Enter; Tab to the first picture, Enter; the next two by arrows; Escape; Tab to Try."""
    page = watched.page

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"the Tab key does not reach {selector}")

    tab_to("nav a[href='#look']")
    page.keyboard.press("Enter")
    expect(page.locator(".tile").first).to_be_visible()
    watched.quiet()
    tab_to(".tile")
    page.keyboard.press("Enter")
    heading = page.get_by_role("dialog").get_by_role("heading").first
    expect(heading).to_be_visible()
    seen = [heading.inner_text()]
    for _ in range(2):
        page.keyboard.press("ArrowRight")
        expect(heading).not_to_have_text(seen[-1])
        seen.append(heading.inner_text())
    assert len(set(seen)) == 3
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).to_have_url(re.compile("#look$"))
    tab_to("nav a[href='#try']")
    page.keyboard.press("Enter")
    expect(page.locator("input[type=file]")).to_be_visible()
    # What comes later may draw the form anew, without the focus.
    watched.quiet()
    tab_to("input[type=file]")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files({"name": "key.jpg", "mimeType": "image/jpeg", "buffer": jpeg((20, 20))})
    expect(page.locator(".word").first).to_be_visible()
    tab_to(".word")
    assert painted(watched) > 0
    watched.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_contrast_labels_and_width_of_every_tab(browser, here, scheme, width) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with opened(browser, here.address, **options) as watched:
        page = watched.page
        for tab in TABS:
            page.goto(f"{here.address}#{tab}")
            if tab == "try":
                choose(watched, "both.jpg", jpeg((80, 60)))
                page.locator(".word").nth(1).focus()
            elif tab == "compare":
                page.get_by_role("button", name="Compare").click()
            shown = {"try": ".word", "look": ".tile", "compare": ".changed mark", "train": ".plot"}[tab]
            expect(page.locator(shown).first).to_be_visible()
            watched.quiet()
            found = Axe().run(page)
            assert found.violations_count == 0, f"{tab}: {found.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
        watched.check()


def test_a_server_that_stops_is_told_and_one_that_returns_is_used(browser: Browser, served: Served) -> None:
    with running(served) as run, opened(browser, run.address) as watched:
        page = watched.page
        choose(watched, "before.jpg", jpeg((20, 20)))
        expect(page.get_by_text("before.jpg, 20 × 20")).to_be_visible()
        run.stop()
        choose(watched, "after.jpg", jpeg((20, 20)))
        expect(page.get_by_text("after.jpg: The server does not answer.")).to_be_visible()
        page.get_by_role("link", name="Train").click()
        expect(page.get_by_text("Is fsgr page still running?")).to_be_visible()
        watched.check(allowed=("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"))


def seen_later(page: Page) -> None:
    """The page has done what an answer that has come makes it do: it has read a later one besides."""
    page.evaluate("fetch('/api/about').then((answer) => answer.json())")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def wait_for_requests(page: Page, held: Sequence[Route], count: int) -> None:
    """Until the page has asked for so many things that are held back; Playwright hears of it as it waits."""
    for _ in range(600):
        if len(held) >= count:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the page asked {len(held)} times, not {count}")


def test_a_tab_that_is_left_while_it_loads_shows_nothing(watched: Watched) -> None:
    """Nor does a picture that is closed before it has come, or a run of pictures overtake one another."""
    page = watched.page
    held: list[Route] = []
    page.route("**/api/look/*", lambda route: held.append(route), times=1)
    page.get_by_role("link", name="Look").click()
    expect(page.locator("main[aria-busy]")).to_be_visible()
    wait_for_requests(page, held, 1)
    page.get_by_role("link", name="Try").click()
    with page.expect_response("**/api/look/*"):
        held[0].continue_()
    seen_later(page)
    expect(page.locator("input[type=file]")).to_be_visible()
    assert page.locator(".tile").count() == 0
    page.get_by_role("link", name="Look").click()
    watched.quiet()
    page.route("**/api/image/141", lambda route: held.append(route), times=1)
    page.evaluate("location.hash = '#look/141'")
    # Of two changes at once the page may see the second one only.
    wait_for_requests(page, held, 2)
    page.evaluate("location.hash = '#look/143'")
    expect(page.get_by_text("Picture 143")).to_be_visible()
    with page.expect_response("**/api/image/141"):
        held[1].continue_()
    seen_later(page)
    assert page.get_by_role("dialog").get_by_role("heading").first.inner_text().startswith("Picture 143")
    watched.check()
