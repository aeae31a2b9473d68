"""Weights from the Hugging Face hub, by a download that goes on where a killed one stopped.

From 1.18 on the library huggingface_hub begins a killed download anew (findings/hub_killed_download.sh). So a
file is brought here to the place in the hub's cache where the library looks for it: as itself and no link,
which the cache has on file systems without links, too (its guide "Understand caching", "Limitations").
"""

import http.client
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import hf_hub_download, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import build_hf_headers

from fsgr_model.runtime.errors import naming_file
from fsgr_model.runtime.folder_lock import locked
from fsgr_model.runtime.progress import progress

# The names that open_clip looks for in a repository, in its order.
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
UNFINISHED = "unfinished"
PIECE = 2**20
SECONDS_OF_SILENCE = 60


def weight_files(hf_hub: str) -> tuple[str, tuple[str, ...]]:
    """The repository of a tag of open_clip, and the files that may be its weights, the best one first."""
    repository, _, name = hf_hub.rpartition("/")
    return repository, (name,) if name else WEIGHT_FILES


def fetch_weights(hf_hub: str) -> Path:
    """The weights of a tag in the hub's cache, downloaded if they are not there yet.

    Raises:
        OSError: no connection, no such file, or no space. What has come is kept and not asked for again.
    """
    repository, names = weight_files(hf_hub)
    for name in names[:-1]:
        try:
            return fetch(repository, name)
        except EntryNotFoundError:
            continue
    return fetch(repository, names[-1])


def fetch(repository: str, name: str) -> Path:
    """One file of a repository; as `fetch_weights`."""
    known = hf_hub_download(repository, name, dry_run=True)
    if known.will_download:
        target = Path(known.local_path)
        folder = target.parent.parent.parent / UNFINISHED / known.commit_hash
        with locked(folder, wait=True):
            if not target.exists():
                url = hf_hub_url(repository, name, revision=known.commit_hash)
                if known.file_size is None:
                    raise OSError(f"{url}: the hub does not say how large the file is")
                download(url, folder / name, known.file_size)
                target.parent.mkdir(parents=True, exist_ok=True)
                (folder / name).replace(target)
            shutil.rmtree(folder)
    return Path(hf_hub_download(repository, name))


def download(url: str, part: Path, size: int) -> None:
    """Add to `part` what it lacks of the `size` bytes of `url`, again and again while something comes."""
    while (has := size_of(part)) < size:
        failed: Exception = OSError(f"{url}: nothing was sent")
        try:
            for _ in progress(pieces(url, part), -(-size // PIECE), part.name, unit="MiB", done=has // PIECE):
                pass
        except OSError as error:
            failed = error
        except http.client.HTTPException as error:
            failed = OSError(f"{url}: {error}")
        if size_of(part) <= has:
            raise failed
    if has > size:
        part.unlink()
        raise OSError(f"{url}: {has} bytes were sent instead of {size}")


def pieces(url: str, part: Path) -> Iterator[None]:
    """Write the rest of a file, one piece after the other."""
    with part.open("ab", buffering=0) as local, naming_file(part):
        request = urllib.request.Request(url, headers={"Range": f"bytes={local.tell()}-"})
        for key, value in build_hf_headers().items():
            # The hub sends on to another host, which is not told the user's token.
            request.add_unredirected_header(key, value)
        with urllib.request.urlopen(request, timeout=SECONDS_OF_SILENCE) as remote:
            if remote.status != http.client.PARTIAL_CONTENT:
                # It does not send parts.
                local.truncate(0)
            while piece := remote.read(PIECE):
                local.write(piece)
                yield


def size_of(part: Path) -> int:
    """Bytes of a file that may not be there yet."""
    return part.stat().st_size if part.exists() else 0
