"""Exported folders on the Hugging Face hub: `hf://owner/name`, or `hf://owner/name@revision`.

A revision is a commit, a tag or a branch. Files stay in the hub's own cache (HF_HOME); what is there of a
commit is taken without a connection.
"""

import re
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from fsgr_model.clip.loading import first_line
from fsgr_model.inference.model_folder import FILES
from fsgr_model.runtime.errors import UserError

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


class Address(NamedTuple):
    """A repository of the hub, and its revision; None: the newest."""

    repository: str
    revision: str | None


def is_address(name: str | PathLike[str]) -> bool:
    return isinstance(name, str) and name.startswith(SCHEME)


def parse_address(name: str) -> Address:
    """The parts of `hf://owner/name@revision`.

    Raises:
        UserError: it is no such address.
    """
    found = ADDRESS.fullmatch(name)
    if not found:
        raise UserError(f"{name!r} is no model of the hub; write hf://owner/name or hf://owner/name@revision")
    return Address(found[1], found[2])


def local_folder(name: str | PathLike[str]) -> Path:
    """The folder of this path; of an address, its files in the hub's cache, downloaded where they lack.

    Raises:
        UserError: there is no such repository or revision, or no connection, and it is not in the cache.
    """
    if not is_address(name):
        return Path(name)
    repository, revision = parse_address(str(name))
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES)))
    except OSError as error:  # errors of the hub are OSErrors, too
        if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
            missing = "repository" if isinstance(error, RepositoryNotFoundError) else "revision"
            reason = f"there is no such {missing} that you may read"
        else:
            reason = first_line(error)
        raise UserError(
            f"{name} cannot be loaded: {reason}; see its name, log in (hf auth login), "
            "and connect to the internet once"
        ) from None


def push(folder: Path, name: str) -> str:
    """Upload an exported folder as one commit; a repository that is new is private.

    Returns:
        the address of this commit, `hf://owner/name@commit`.

    Raises:
        UserError: the address has a revision, you may not write there, or there is no connection.
    """
    repository, revision = parse_address(name)
    if revision is not None:
        raise UserError(f"{name}: a push makes a revision of its own; write hf://{repository}")
    hub = HfApi()
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=list(FILES), commit_message="fsgr export"
        )
    except OSError as error:
        raise UserError(
            f"{name} cannot be written: {first_line(error)}; log in as one who may write there (hf auth "
            "login), and try again"
        ) from None
    return f"{SCHEME}{repository}@{commit.oid}"
