"""A folder that is put back as it was, the very same files: open ones stay what they are."""

import os
import shutil
import zlib
from dataclasses import dataclass
from os import link
from pathlib import Path

Facts = tuple[int, int, int]


@dataclass(frozen=True)
class Taken:
    """Folders, and files with their number, time and size."""

    folders: set[str]
    files: dict[str, Facts]


class Tree:
    """Everything below `root`; `aside` is a folder beside it, on the same disk."""

    def __init__(self, root: Path, aside: Path | None = None) -> None:
        self.root, self.aside = root, aside or root
        self._kept: dict[Facts, bytes] = {}

    @property
    def output(self) -> Path:
        """Where forks write what they say."""
        return self.aside / "said"

    @property
    def about(self) -> Path:
        """Where a fork writes which file was the first to be refused."""
        return self.aside / "about"

    def taken(self) -> Taken:
        """How it is now. A second name keeps each file when it is deleted, and its content is held."""
        now = self._look()
        for name, facts in now.files.items():
            if facts not in self._kept:
                self._kept[facts] = (self.root / name).read_bytes()
            if not (second := self.aside / str(facts[0])).exists():
                link(self.root / name, second)
        return now

    def restore(self, taken: Taken) -> None:
        """Put back what was deleted, moved or changed, and delete what came."""
        now = self._look()
        if now == taken:
            return
        for name in now.files.keys() - taken.files.keys():
            (self.root / name).unlink()
        for name in sorted(now.folders - taken.folders, reverse=True):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in sorted(taken.folders - now.folders):
            (self.root / name).mkdir(exist_ok=True)
        for name, facts in taken.files.items():
            if now.files.get(name) != facts:
                self._restore_file(self.root / name, facts)

    def _restore_file(self, path: Path, facts: Facts) -> None:
        number, changed, _ = facts
        if not path.exists() or path.stat().st_ino != number:
            path.unlink(missing_ok=True)
            link(self.aside / str(number), path)
        if _facts(path.stat()) != facts:
            with path.open("r+b") as opened:
                opened.truncate()
                opened.write(self._kept[facts])
            os.utime(path, ns=(changed, changed))

    def contents(self) -> dict[str, str]:
        """A digest of each file; what commands keep for themselves is left out."""
        found = {}
        for name, facts in self._look().files.items():
            if name.startswith((".resume", "tmp", "held")):
                continue
            if facts not in self._kept:
                self._kept[facts] = (self.root / name).read_bytes()
            data = self._kept[facts]
            found[name] = f"{len(data)} bytes {zlib.crc32(data):08x}"
        return found

    def _look(self) -> Taken:
        folders, files, waiting = set(), {}, [""]
        while waiting:
            start = waiting.pop()
            with os.scandir(self.root / start) as entries:
                for entry in entries:
                    name = f"{start}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        folders.add(name)
                        waiting.append(f"{name}/")
                    elif entry.is_file(follow_symlinks=False):
                        files[name] = _facts(entry.stat())
        return Taken(folders, files)


def _facts(found: os.stat_result) -> Facts:
    return found.st_ino, found.st_mtime_ns, found.st_size
