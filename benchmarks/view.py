"""How fast the view is with many responses: seconds and memory of the first page, of each filter, of a search.

python benchmarks/view.py [--responses 500000] [--tokens 2000] [--folder DIR]

The responses are synthetic: words by Zipf's law, of ten models to one benchmark under two scorers, and all ten
models say the same. What the view reads
is written directly as its Parquet files. Every request goes through the whole application. Run it twice with one
--folder: the peak memory of the second process is that of the view alone.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from micota.recipe.recipe import Recipe
from micota.recipe.words import as_model
from micota.store.artifacts import Store
from micota.viewer.accuracy_page import prepare
from micota.viewer.pages import View
from micota.viewer.parquet_files import BATCH, ParquetFiles, Part
from micota.viewer.server import application

MODELS = 10
FILTERS = {
    "first page": "responses",
    "model and verdict": "responses?arm=m3&verdict=wrong",
    "scorers disagree": "responses?disagree=1",
    "truncated and repetitive": "responses?truncated=1&repetitive=1",
    "range of tokens": "responses?least=1500&most=1600",
    "level and subject": "responses?level=3&subject=Algebra",
    "A right and B wrong": "responses?right=m1&wrong=m2",
    "page 5,000": "responses?page=5000",
    "search, a rare word": "responses?q=w19998",
    "search, a common word": "responses?q=w1",
    "search, two words and a filter": "responses?q=w50+w900&arm=m2&verdict=correct",
    "one problem of four models": "problem?in=bench&key={key}&show=m0&show=m1&show=m2&show=m3",
    "next of A right and B wrong": "problem?in=bench&key={key}&right=m1&wrong=m2",
    "table": "tables",
    "table with differences": "tables?scorer=semantic&baseline=m0",
    "table of a level": "tables?level=3",
    "comparison of two models": "compare?a=m1&b=m2&scorer=semantic",
    "data": "data",
}


def recipe() -> Recipe:
    """Ten models on one set under both scorers."""
    arms = {f"m{i}": as_model(f"org/model-{i}") for i in range(MODELS)}
    return Recipe(arms, evaluate={"data": ["gsm8k"]}, name="many")


def written(files: ParquetFiles, responses: int, tokens: int) -> list[Part]:
    """Write the files of all models; returns their parts."""
    cells: dict[str, list[Any]] = {}
    for cell in files.results.recipe.evaluations:
        cells.setdefault(cell.model, []).append(cell)
    each, parts = responses // len(cells), []
    keys = sorted(f"{random.Random(i).getrandbits(64):016x}" for i in range(each))
    about = {
        "level": [str(i % 5) for i in range(each)],
        "subject": [("Algebra", "Geometry")[i % 2] for i in range(each)],
    }
    about |= {"problem": keys, "text": [f"Problem {key}?" for key in keys], "gold": ["7"] * each}
    files._write(files.path("problems", "0"), dict.fromkeys(about, _string()), [about])
    for number, evaluations in enumerate(cells.values()):
        part = Part(tuple(evaluations), f"{number:x}", f"{number:x}", "0")
        rng = np.random.default_rng(number)
        files._write(
            files.path("rows", part.rows), files.columns, [_rows(part, cell, keys, rng, tokens) for cell in evaluations]
        )
        columns = {n: _string() for n in ("problem", "response", "prompt", "finish", "engine")}
        columns |= {n: _string("int64") for n in ("sample", "row", "prompt_tokens")}
        if not parts:
            files._write(files.path("texts", part.texts), columns, _texts(keys, rng, tokens))
        parts.append(part)
    return parts


def _string(name: str = "string") -> Any:
    import pyarrow as pa

    return getattr(pa, name)()


def _rows(part: Part, cell: Any, keys: list[str], rng: Any, tokens: int) -> dict[str, Any]:
    n = len(keys)
    right = rng.random(n) < 0.5
    constant = {"arm": cell.role, "model": cell.model, "benchmark": cell.data_word, "scorer": cell.spec.by,
                "generated_by": "vllm 0.31 on one-gpu", "fake": False, "texts": part.texts, "problems": "0",
                "sample": 0, "reason": "equal numbers"}  # fmt: skip
    return {name: [value] * n for name, value in constant.items()} | {
        "problem": keys,
        "verdict": np.where(right, "correct", "wrong").tolist(),
        "answer": rng.integers(0, 1000, n).astype(str).tolist(),
        "tokens": rng.integers(tokens // 2, 3 * tokens // 2, n),
        "truncated": rng.random(n) < 0.1,
        "repetitive": rng.random(n) < 0.05,
        "disagree": rng.random(n) < 0.03,
        "row": np.arange(n),
        "level": [str(i % 5) for i in range(n)],
        "subject": [("Algebra", "Geometry")[i % 2] for i in range(n)],
    }


def _texts(keys: list[str], rng: Any, tokens: int) -> Any:
    chance = 1 / np.arange(1, 20001)
    words = np.array([f"w{i}" for i in range(20000)])
    stock = " ".join(words[rng.choice(20000, 4_000_000, p=chance / chance.sum())])  # responses are cut from it
    size = tokens * len(stock) // 4_000_000
    for start in range(0, len(keys), BATCH):
        some = keys[start : start + BATCH]
        n, cuts = len(some), rng.integers(0, len(stock) - size, len(some))
        yield {
            "problem": some, "sample": [0] * n, "row": list(range(start, start + n)), "prompt": some,
            "response": [f"<think>{stock[cut : cut + size]}</think> \\boxed{{7}}" for cut in cuts],
            "finish": ["stop"] * n, "engine": ["vllm 0.31"] * n, "prompt_tokens": [90] * n,
        }  # fmt: skip


def main() -> None:
    """Print a line for each question: seconds and CPU seconds of the first time, and the median of three more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=int, default=500_000)
    parser.add_argument("--tokens", type=int, default=2_000)
    parser.add_argument("--folder", type=Path, help="where the files stay for another run; else a temporary folder")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    view = View(Store(folder), recipe())
    base = view.answers
    began = time.perf_counter()
    marker = folder / f"done-{asked.responses}-{asked.tokens}"
    if not marker.exists():
        parts = written(base.files, asked.responses, asked.tokens)
        print(f"files written in {time.perf_counter() - began:.0f} s", flush=True)
        began = time.perf_counter()
        base.files.index(parts[0])
        for kind, part in ((kind, part) for kind in ("texts", "words") for part in parts[1:]):
            base.files.path(kind, part.texts).hardlink_to(base.files.path(kind, parts[0].texts))
        print(f"indexes written in {time.perf_counter() - began:.0f} s", flush=True)
        marker.touch()
        print("run again with the same --folder to measure in a fresh process" if asked.folder else "")
    cells: dict[str, list[Any]] = {}
    for cell in view.results.recipe.evaluations:
        cells.setdefault(cell.model, []).append(cell)
    base._load([Part(tuple(cells[model]), f"{i:x}", f"{i:x}", "0") for i, model in enumerate(cells)])
    base.waiting, base.indexed = 0, len(base.parts)
    sizes = {
        kind: sum(path.stat().st_size for path in base.files.folder.glob(f"{kind}-*")) / 1e6
        for kind in ("rows", "texts", "words")
    }
    print("MB on disk:", {kind: round(size) for kind, size in sizes.items()}, "SQLite", sqlite3.sqlite_version)
    prepare()  # as the server does when it starts
    measure(view)
    if not asked.folder:
        shutil.rmtree(folder)


def measure(view: View) -> None:
    """Ask each question four times and print seconds; then the peak of memory."""
    from starlette.testclient import TestClient

    client = TestClient(application(view, "t"), base_url="http://127.0.0.1")
    key = view.answers.rows("SELECT problem FROM answers LIMIT 1 OFFSET 1234")[0]["problem"]
    bench = view.answers.options["benchmark"][0]
    for name, page in FILTERS.items():
        address = f"/t/{page.format(key=key).replace('in=bench', 'in=' + quote(bench))}"
        seconds = []
        for _ in range(4):
            began, cpu = time.perf_counter(), time.process_time()
            reply = client.get(address)
            seconds.append((time.perf_counter() - began, time.process_time() - cpu))
            assert reply.status_code == 200, reply.text[:500]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        (wall, work), (again, less) = seconds[0], sorted(seconds[1:])[1]
        print(
            f"{name:32} {wall:6.2f} s ({work:5.2f} CPU), then {again:6.2f} s ({less:5.2f} CPU); {peak:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
