"""How long the ends of `generate` and `verify` take, when all answers are in the pool: reading, grading, writing.

    python benchmarks/stage_end.py [ROWS] [--against CHECKOUT] [--rounds 3] [--threads 2]

Answers of 8 KB, every third with a fraction, every hundredth to be compared by meaning. In each round this checkout and
the other run in turn, in processes of their own; a line of JSON for each stage has the seconds by the clock and of the
processor (medians), in the stage's process and in all of them, and the ratios. Contents must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from operator import sub
from pathlib import Path
from statistics import median
from typing import Any

WORDS = [f"{word}{i}" for word in ("so", "thus", "x", "let", "we", "have", "then") for i in range(60)]


def text(i: int) -> str:
    """A thought of 8 KB and an answer."""
    thought = " ".join(random.Random(i).choices(WORDS, k=1500))
    answer = f"x^{{{i}}}" if i % 100 == 0 else i % 97 if i % 3 else f"{i}/7"
    return f"<think>\n{thought}\n</think>\n\nThe answer is \\boxed{{{answer}}}."


def fill(folder: Path, rows: int) -> None:
    """The problems, and a pool with an answer to each."""
    from micota.store.pool import Writer
    from micota.store.records import Completion, text_key, write_rows

    keys = [text_key(str(i)) for i in range(rows)]
    problems = ({"key": key, "problem": str(i), "answer": str(i % 97)} for i, key in enumerate(keys))
    (folder / "problems").mkdir()
    write_rows(folder / "problems" / "rows.jsonl", problems)
    _, pool = generation(folder)
    with Writer(pool, {"model": "m"}) as writer:
        for start in range(0, rows, 500):
            part = range(start, min(rows, start + 500))
            writer.write(Completion(keys[i], 0, f"problem {i}", text(i), "stop", 10, 2000, "e") for i in part)


def generation(folder: Path) -> tuple[Any, Path]:
    """The spec whose answers these are, and its pool."""
    from micota.specs import Generate, Problems, Prompt, Source
    from micota.store.artifacts import Store

    model, data = Source(ref="lab:teacher", revision="1"), Source(ref="./p.jsonl", revision="2", path="p.jsonl")
    spec = Generate(model=model, problems=Problems(source=data), prompt=Prompt(template="{problem}"))
    return spec, Store(folder / "store").pool_folder(spec.pool("m"))


def stages(folder: Path, threads: int) -> dict[str, Any]:
    """Run both ends in this process: the seconds of each, and the hash of what it wrote."""
    from micota.machine import MachineProfile
    from micota.specs import Verify
    from micota.stages import generate, verify
    from micota.store.artifacts import Store
    from micota.store.checked import sha256
    from micota.store.inputs import Input
    from micota.store.task import Progress, Task

    spec, pool = generation(folder)
    model, problems = Input("m"), Input("p", folder / "problems")
    answers = Input("a", folder / "generate" / "out", (pool.name,))
    check = Verify(completions=spec, problems=spec.problems)
    inputs = {spec.model.digest: model, spec.problems.digest: problems, spec.digest: answers}
    found: dict[str, Any] = {}
    for name, one, run in (("generate", spec, generate.run), ("verify", check, verify.run)):
        work = folder / name
        (work / "out").mkdir(parents=True, exist_ok=True)
        machine = MachineProfile(name="bench", threads=threads)
        task = Task(one, work, inputs, Store(folder / "store"), machine, Progress(work / "progress.json"))
        before = clocks()
        run(task)
        found[name] = [*map(sub, clocks(), before)], sha256(work / "out" / "rows.jsonl")
    return found


def clocks() -> tuple[float, float, float]:
    """The seconds of the clock, of the processor in this process, and in it and those that it has waited for."""
    times = os.times()
    own = times.user + times.system
    return time.perf_counter(), own, own + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=int, nargs="?", default=200_000)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.folder:
        print(json.dumps(stages(chosen.folder, chosen.threads)))
        return
    here = Path(__file__).parents[1]
    if chosen.against and not (chosen.against / "src" / "micota").is_dir():
        parser.error(f"{chosen.against} is no checkout: git worktree add {chosen.against} COMMIT")
    checkouts = [here, *([chosen.against] if chosen.against else [])]
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name), chosen.rows)
        command = [sys.executable, __file__, "--in", name, "--threads", str(chosen.threads)]
        seen: list[list[dict[str, Any]]] = [[] for _ in checkouts]
        for _ in range(chosen.rounds):
            for runs, checkout in zip(seen, checkouts, strict=True):
                environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
                done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                runs.append(json.loads(done.stdout))
    for stage in ("generate", "verify"):
        assert len({run[stage][1] for runs in seen for run in runs}) == 1, "contents differ"
        row: dict[str, Any] = {"stage": stage, "rows": chosen.rows}
        for number, what in enumerate(("wall", "cpu_here", "cpu")):
            seconds = [median(run[stage][0][number] for run in runs) for runs in seen]
            row |= {what: [round(one, 2) for one in seconds], f"{what}_ratio": round(seconds[-1] / seconds[0], 2)}
        print(json.dumps(row))


if __name__ == "__main__":
    main()
