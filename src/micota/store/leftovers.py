"""What runs leave that were killed between the last step of a stage and giving back its claim."""

from __future__ import annotations

import shutil
from pathlib import Path

from micota.store.artifacts import Store
from micota.store.locks import holder, locked


def remove_leftovers(store: Store) -> list[Path]:
    """Remove claims of processes of this host that are gone, and the work folders of stages that have ended.

    A work folder whose `out` is still there is that of a stage to resume, and stays. Returns what was removed.
    """
    folder = store.root / "claims"
    if not folder.is_dir():
        return []
    with locked(folder / ".lock"):  # nobody takes a claim meanwhile, nor a work folder over
        void = [path for path in folder.glob("[!.]*.json") if holder(path) is None]
        for path in void:
            path.unlink(missing_ok=True)
        ended = [work for work in (store.root / "making").glob("[!.]*") if _ended(store, work)]
        for work in ended:
            shutil.rmtree(work, ignore_errors=True)
    return [*void, *ended]


def _ended(store: Store, work: Path) -> bool:
    """Whether the stage of a work folder has written its artifact, and nobody makes it again."""
    artifact = work.name.partition(".")[0]
    manifest = store.manifest_of(artifact)
    return manifest is not None and not (work / "out").exists() and not store.lock(artifact).exists()
