"""Captions of very many pictures, into one file: fsgr caption --out captions.jsonl FOLDER...

One process walks through the folders, deals out groups of pictures and writes the lines in the order in which
it found the pictures; it alone, or as many others as are asked for, caption the groups. So the file does not
depend on how many there are, and memory does not grow with what is still to be captioned.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from fsgr_model.commands.bulk_file import CaptionFile, Done, write_beside
from fsgr_model.commands.bulk_workers import Captioned, Group, Job, Model, Said, workers
from fsgr_model.commands.caption_files import tell, tell_search
from fsgr_model.datasets.picture_search import Search, counted, is_folder, pictures_below
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.stopping import Stopped


class Pictures:
    """The pictures that are named, and those below the folders that are named: each of them once."""

    def __init__(self, paths: Iterable[Path]) -> None:
        named: dict[Path, Path] = {}
        for path in paths:
            named.setdefault(_place(path), path)
        self.folders = {place: path for place, path in named.items() if is_folder(path)}
        self.files = {place: path for place, path in named.items() if place not in self.folders}

    def walk(self, report: Callable[[Path, Search, int], None] | None = None) -> Iterator[Path]:
        """One by one; at the end of each folder its search and the number of its pictures are reported."""
        yield from self.files.values()
        for place, folder in self.folders.items():
            search, found = Search(), 0
            for picture in pictures_below(folder, search):
                found += 1
                if self._belongs(picture, place):
                    yield picture
            if report is not None:
                report(folder, search, found)

    def _belongs(self, picture: Path, place: Path) -> bool:
        """To this folder: it is not named itself, nor is a folder between them."""
        if len(self.folders) + len(self.files) == 1:
            return True
        where = _place(picture)
        nearest = next(each for each in where.parents if each in self.folders)
        return where not in self.files and nearest == place


def _place(path: Path) -> Path:
    """Where a path is, however it is spelled; links are not followed."""
    return Path(os.path.normpath(path.absolute()))


def caption_into(out: Path, paths: Iterable[Path], job: Job, *, processes: int, beside: bool) -> bool:
    """Add a line to `out` for each picture that has none; with `beside`, a `.txt` next to each picture too.

    Returns:
        whether all pictures have a line, and their `.txt` if it is asked for.

    Raises:
        UserError: `out` is in use, is no such file or was made by another model; a process was ended.
    """
    with CaptionFile(out) as file:
        run = BulkRun(file, Pictures(paths), beside)
        try:
            with workers(job, processes) as (model, captioned):
                run.begin(model)
                run.write(captioned, model.batch_size)
        except BrokenProcessPool:
            raise UserError(
                f"a process was ended from outside, as systems do that run out of memory; {run.kept}; lower "
                "--processes or close other programs, and run the same command to continue"
            ) from None
        except Stopped as stop:
            stop.kept = run.kept
            raise
        return run.end()


class BulkRun:
    """A run's file, what it holds already, and what is still to be done."""

    def __init__(self, file: CaptionFile, pictures: Pictures, beside: bool) -> None:
        self.file, self.pictures, self.beside = file, pictures, beside
        self.model: str | None = None
        self.lines = self.total = self.before = self.seen = self.refused = self.without = 0
        self.bad: Counter[str] = Counter()
        self.done = Done(self._lines())

    def _lines(self) -> Iterator[str]:
        """The paths of the lines that there are; a `.txt` that is missing is written."""
        for row in self.file.rows():
            if self.model not in (None, row["model"]):
                raise UserError(f"{self.file.path} has lines of several models; give another --out")
            self.model = row["model"]
            self.lines += 1
            self._put_beside(Path(row["path"]), row["caption"])
            yield row["path"]

    def _put_beside(self, path: Path, caption: str) -> None:
        if self.beside:
            self.refused += not write_beside(path, caption)

    @property
    def kept(self) -> str:
        return f"{self.lines} captions are in {self.file.path}"

    def begin(self, model: Model) -> None:
        """Compare the models, and count what there is to do."""
        if self.model not in (None, model.identity):
            raise UserError(
                f"{self.file.path} was made by another model, or with other options (model {self.model}, now "
                f"{model.identity}); give another --out, or the model and options of before"
            )
        for path in self.pictures.walk(self._report):
            self.total += 1
            self.before += path in self.done

    def _report(self, folder: Path, search: Search, found: int) -> None:
        self.without += tell_search(folder, search, found)

    def write(self, captioned: Captioned, batch_size: int) -> None:
        """Caption what has no line, and show how far it is."""
        missing = (path for path in self.pictures.walk() if path not in self.done)
        finished = self._written(captioned(groups_of(missing, batch_size)))
        if self.total > self.before:
            for _ in progress(finished, self.total, "captions", unit="images", done=self.before):
                self.seen += 1
        self.file.sync()

    def _written(self, groups: Iterable[Said]) -> Iterator[None]:
        """Write the groups; yields for every picture."""
        for said in groups:
            self.file.append([each.line for each in said.lines])
            self.lines += len(said.lines)
            for each in said.lines:
                self._put_beside(each.path, each.caption)
            self.bad += said.bad
            yield from [None] * (len(said.lines) + said.bad.total())

    def end(self) -> bool:
        """Tell how it ended; whether all is there."""
        if self.bad:
            tell("error", f"of {self.total} pictures these were not captioned: {counted(self.bad)}")
        changed = self.before + self.seen != self.total
        if changed:
            tell("error", "pictures came or went meanwhile; run the same command for those that have no line")
        print(self.kept, flush=True)
        return not (self.bad or changed or self.refused or self.without)


def groups_of(paths: Iterator[Path], size: int) -> Iterator[Group]:
    while group := list(islice(paths, size)):
        yield group
