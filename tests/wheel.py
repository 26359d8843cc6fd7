"""Whether a built wheel holds every file of the package: `python tests/wheel.py dist`."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(folder: str) -> int:
    (wheel,) = Path(folder).glob("*.whl")
    tracked = subprocess.run(
        ["git", "ls-files", "src/micota"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    missing = {name.removeprefix("src/") for name in tracked if name} - set(zipfile.ZipFile(wheel).namelist())
    if missing:
        print(f"{wheel.name} lacks files; name them under [tool.setuptools.package-data] of pyproject.toml:")
        print("\n".join(sorted(missing)))
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
