"""What the pages point to is there: files, headings, paths in backticks, and tests."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def listed(*patterns: str) -> list[str]:
    """The files of the project whose names match."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(name for name in done.stdout.splitlines() if (ROOT / name).is_file())


PAGES = listed("*.md")
CODE_FILES = listed("*.py", "*.yaml", "*.toml", "*.sh", "Makefile")
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
# NAME stands for a name that the reader chooses.
OURS = re.compile(r"(?!.*NAME)(fsgr_model|pipeline|bench|tests|docs|presets|findings|\.ci|\.github)/[\w./-]*")
TEST = re.compile(r"([\w/]*test_\w+\.py)(?:::(\w+))?")
PARAMETERS = ROOT / "docs" / "reference" / "parameters.md"
PARAMETER = re.compile(r"(\w+(?:\.\w+)+)(?:(?::| ?=) ?.*)?")
# A page or a finding, as code names it.
PAGE_OR_FINDING = re.compile(r"\b(?:docs|findings)/[\w/-]+\.(?:md|sh)\b")
SUFFIXES = (".json", ".md", ".py", ".tsv", ".safetensors", ".h5")
# It may name what was removed.
HISTORY = {"CHANGELOG.md"}


def prose(page: str) -> str:
    """The text of a page without its fenced blocks."""
    return FENCED.sub("", (ROOT / page).read_text(encoding="utf-8"))


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    lines = FENCED.sub("", page.read_text(encoding="utf-8")).splitlines()
    return {anchor(line.lstrip("#").strip()) for line in lines if re.match(r"#+ ", line)}


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken_links(page: str, text: str) -> Iterator[str]:
    """Relative links of a page that lead nowhere."""
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        if not path.exists() or (heading and heading not in headings(path)):
            yield target


def missing_paths(text: str) -> Iterator[str]:
    """Paths of this project in backticks that are not there."""
    for code in CODE.findall(text):
        if OURS.fullmatch(code) and not TEST.search(code) and not (ROOT / code).exists():
            yield code


def pages_named(code_file: str) -> list[str]:
    """Pages of docs/ and scripts of findings/ that a file of code points its reader to."""
    return PAGE_OR_FINDING.findall((ROOT / code_file).read_text(encoding="utf-8"))


def missing_tests(text: str) -> Iterator[str]:
    """Tests in backticks, by their path below tests/, that are not there."""
    for code in CODE.findall(text):
        if not (found := TEST.fullmatch(code)):
            continue
        path = ROOT / "tests" / found[1].removeprefix("tests/")
        if not path.is_file() or (found[2] and f"def {found[2]}(" not in path.read_text(encoding="utf-8")):
            yield code


def unknown_parameters(text: str) -> Iterator[str]:
    """Parameters in backticks, alone or with a value, that are not on the page of parameters."""
    known = re.findall(r"^\| `([\w.\[\]]+)` \|", PARAMETERS.read_text(encoding="utf-8"), re.MULTILINE)
    sections = {name.partition(".")[0] for name in known if "." in name}
    for code in CODE.findall(text):
        found = PARAMETER.fullmatch(code)
        if found is None or found[1].partition(".")[0] not in sections or found[1].endswith(SUFFIXES):
            continue
        if not any(name == found[1] or name.startswith(f"{found[1]}.") for name in known):
            yield code


def test_there_are_pages() -> None:
    assert {"README.md", "docs/index.md", "docs/reference/errors.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    assert list(broken_links(page, prose(page))) == []


@pytest.mark.parametrize("page", sorted(set(PAGES) - HISTORY))
def test_paths_tests_and_parameters_that_are_named_exist(page: str) -> None:
    text = prose(page)
    assert [*missing_paths(text), *missing_tests(text), *unknown_parameters(text)] == []


def test_pages_that_the_code_names_exist() -> None:
    named = {(name, path) for name in CODE_FILES for path in pages_named(name)}
    assert [found for found in sorted(named) if not (ROOT / found[1]).exists()] == []


def test_every_page_is_reached_from_the_index() -> None:
    """One link from docs/index.md, as it says."""
    index = ROOT / "docs" / "index.md"
    targets = [target.partition("#")[0] for target in LINK.findall(index.read_text(encoding="utf-8"))]
    linked = {(index.parent / target).resolve() for target in targets}
    below = {(ROOT / page).resolve() for page in PAGES if page.startswith("docs/")}
    assert below - linked == {index}


def test_what_is_broken_is_noticed() -> None:
    said = "[a](nowhere.md) [b](index.md#no-such-heading) [c](index.md) [d](https://x.org/y)"
    assert list(broken_links("docs/index.md", said)) == ["nowhere.md", "index.md#no-such-heading"]
    assert list(missing_paths("`fsgr_model/nothing.py` `fsgr_model/__init__.py` `a/b`")) == [
        "fsgr_model/nothing.py"
    ]
    here = "`docs/test_links.py::test_there_are_pages` `docs/test_links.py::test_gone` `test_gone.py`"
    assert list(missing_tests(here)) == ["docs/test_links.py::test_gone", "test_gone.py"]
    said = "`xe.epochs` `xe.epochz: 3` `clip.json` `model` `scst.lr=1e-5` `scst.rate=1e-5` `a.b`"
    assert list(unknown_parameters(said)) == ["xe.epochz: 3", "scst.rate=1e-5"]
