"""Data sets as tables: files as they stand, folders and those of the Hub through `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from micota.data.rows_of_files import FileRows, check_depth
from micota.errors import MicotaError
from micota.specs import Source


def table(source: Source, config: str | None, split: str | None, cache: Path, here: bool = False) -> Any:
    """The table of a source: `column_names`, a length, and rows as mappings.

    Folders are read anew, into `cache`: a cache of an earlier content would be wrong. `here`: without downloads.
    """
    path = Path(source.path) if source.path else None
    if path and path.is_file():
        if (config or split or "").endswith("]"):
            raise MicotaError(f"{source.ref} is a file, which has no parts", fix="take a part by `skip` and `n`")
        return FileRows(path)
    import datasets

    split = split or "train"
    if path is None:
        download = datasets.DownloadConfig(local_files_only=here)
        return datasets.load_dataset(
            source.ref, config, split=split, revision=source.revision, download_config=download
        )
    for file in path.rglob("*.json*"):
        if file.is_file():
            check_depth(file)
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(str(path), config, split=split, cache_dir=str(cache))
    except Exception as error:  # of any kind: whatever lies in a folder is tried by one of many readers
        cause = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
        fix = "check that all rows have the same form, or name one file"
        raise MicotaError(f"{source.ref} cannot be read: {cause:.300}", fix=fix) from error
