"""Putting a folder into a repository of the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from micota.errors import MicotaError


def push(repo: str, sort: Literal["model", "dataset"], folder: Path, local: Path) -> str:
    """Upload a folder, into a repository that is private if it is new; returns its address.

    `local` is where the same content stays on this machine.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type=sort, private=True, exist_ok=True)
        message = f"{local.absolute().name}, by micota"
        api.upload_folder(repo_id=repo, repo_type=sort, folder_path=folder, commit_message=message)
    except Exception as error:  # no network, no login, no right: the client has many errors for them
        message = " ".join(str(error).split())[:300]
        answered = isinstance(error, HfHubHTTPError | LocalTokenNotFoundError)
        fix = f"`hf auth login`, or another name than {repo}" if answered else "the network, and HF_HUB_OFFLINE"
        fix = f"{fix if answered else f'check {fix}, and push again'}; it is all in {local}"
        raise MicotaError(f"{local.absolute().name} cannot be pushed to {repo}: {message}", fix=fix) from None
    return str(address)
