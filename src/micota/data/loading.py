"""Data sets as tables, through `datasets`: from the Hub, from a file, or from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.specs import Source
from micota.store.resolution import DATA_FORMATS


def table(source: Source, config: str | None, split: str | None, cache: Path) -> Any:
    """The table of a source. Files are read anew, into `cache`: a cache of an earlier content would be wrong."""
    import datasets

    split = split or "train"
    if source.path is None:
        return datasets.load_dataset(source.ref, config, split=split, revision=source.revision)
    path = Path(source.path)
    datasets.disable_progress_bars()
    try:
        if path.is_file():
            reader = DATA_FORMATS[path.suffix]
            return datasets.load_dataset(reader, data_files={split: str(path)}, split=split, cache_dir=str(cache))
        return datasets.load_dataset(str(path), config, split=split, cache_dir=str(cache))
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise MicotaError(
            f"{source.ref} cannot be read: {cause}", fix="check that all rows have the same form"
        ) from error
