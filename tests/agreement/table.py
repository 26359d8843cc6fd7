"""`make families`: every family through micota and through its references; prints findings, writes docs/models.md.

python tests/agreement/table.py [--mergekit PYTHON] [--write FILE] [--workers N] [--only NAME ... | --spread N]

Only the whole run writes the file; `--spread N` takes N families from the beginning of the list to its end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from agreement import Agreement, Finding, workspace  # noqa: E402
from tiny_families import FAMILIES, build  # noqa: E402

BEGIN, END = "<!-- the table of `make families` begins -->\n", "<!-- the table of `make families` ends -->\n"
Findings = dict[str, dict[str, Finding]]


def record(python: str, folder: Path) -> Path:
    """mergekit's merges of the families in `folder`, made by another environment's Python."""
    out = folder.parent / "mergekit"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [python, str(HERE / "merges.py"), str(folder), str(out)], check=True, env=environment, stderr=subprocess.DEVNULL
    )
    return out


def found(names: list[str], mergekit: str | None, workers: int) -> Findings:
    """The findings of each family, printed as they come; each worker takes one family after the other."""
    findings: Findings = {}
    with tempfile.TemporaryDirectory() as folder:
        places = [build(Path(folder) / "families", name) for name in names]
        recorded = record(mergekit, Path(folder) / "families") if mergekit else None
        with ProcessPoolExecutor(workers, get_context("spawn"), quiet) as pool:
            for name, row in zip(names, pool.map(look, places, [recorded] * len(places)), strict=True):
                findings[name] = row
                for aspect, finding in row.items():
                    print(f"{name:12} {aspect:9} {finding.word:8} {finding.text}", flush=True)
    return findings


def look(place: Path, recorded: Path | None) -> dict[str, Finding]:
    """The findings of one family, whose models are in `place`."""
    return Agreement(place, workspace(place.parents[1] / "work" / place.name), recorded).look()


def quiet() -> None:
    """One thread, and no reports of transformers."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def table(findings: Findings) -> str:
    """Markdown: a row for each family, a number where something is refused, and the reasons below."""
    aspects = list(next(iter(findings.values())))
    reasons: dict[str, int] = {}
    rows = []
    for name, row in findings.items():
        cells = []
        for finding in row.values():
            if finding.word == "agrees":
                cells.append(finding.with_whom)
            else:
                cells.append(f"{finding.word} [{reasons.setdefault(finding.reason, len(reasons) + 1)}]")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    head = [f"| family | {' | '.join(aspects)} |", "|---" * (len(aspects) + 1) + "|"]
    notes = [f"[{number}] {reason}.\n" for reason, number in reasons.items()]
    return "\n".join([*head, *rows, "", *notes])


def write(file: Path, text: str) -> None:
    """Put the table between its marks."""
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    file.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.partition(END)[2], encoding="utf-8")


def main() -> int:
    """The number of findings that differ."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mergekit")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(FAMILIES))
    parser.add_argument("--spread", type=int)
    asked = parser.parse_args()
    if asked.spread:
        asked.only = list(dict.fromkeys(asked.only[i * len(asked.only) // asked.spread] for i in range(asked.spread)))
    quiet()
    findings = found(asked.only, asked.mergekit, asked.workers)
    bad = [f"{name}: {aspect}" for name, row in findings.items() for aspect, one in row.items() if not one.is_well]
    print(
        f"{len(findings)} families, transformers {version('transformers')}, peft {version('peft')}; {len(bad)} differ"
    )
    if asked.write and not bad and findings.keys() == FAMILIES.keys():
        write(asked.write, table(findings))
    return len(bad)


if __name__ == "__main__":
    sys.exit(main())
