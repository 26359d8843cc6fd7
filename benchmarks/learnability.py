"""What the measures of learnability cost beside bits per character, as ratios of CPU times, taken in turns.

    python benchmarks/learnability.py FOLDER [--shape small] [--tokens 1024] [--rows 8] [--rounds 5] [--machine laptop]

A random model of a shape measures rows of about `tokens` tokens, of which a step has 48: bits per character alone, with
ranks and the tokens beyond a context, and with the local log-probability given two steps too, of all steps and of
8. `small` has 24 % of its multiplications in its head, Qwen2.5's 1.5B 15 % and 0.5B 28 %.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from time import process_time

from training import SHAPES, model

import micota as mc
from micota.architectures import KNOWN, Architecture

SMALL = Architecture("qwen2", 256, 1376, 8, 4, 2, 64, 12_000, True, 32_768, True)
WAYS = {
    "bits per character": {},
    "and ranks, tokens beyond": {"rsr": True},
    "and local, 2 steps": {"rsr": True, "local": 2, "step_end": ";"},
    "and local of 8 steps": {"rsr": True, "local": 2, "step_end": ";", "local_steps": 8},
}


def rows(path: Path, number: int, tokens: int) -> None:
    """Responses of steps of 48 tokens; a character is a token of the lab."""
    step = "".join(str(i * i % 10) for i in range(47)) + ";"
    text = (step * (tokens // 48 + 1))[: tokens - 16]
    path.write_text("".join(json.dumps({"prompt": f"{i}+1", "response": text}) + "\n" for i in range(number)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", default="small", choices=["small", *SHAPES])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--machine", default="laptop")
    parser.add_argument("--precision", default="float32")
    asked = parser.parse_args()
    weights = asked.folder / asked.shape
    asked.folder.mkdir(parents=True, exist_ok=True)
    if not weights.exists():
        model(weights, SMALL if asked.shape == "small" else KNOWN[SHAPES[asked.shape]])
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(-1, asked.rounds):  # the first warms up
        rows(data := asked.folder / f"rows{turn}.jsonl", asked.rows + turn + 1, asked.tokens)
        for way, fields in WAYS.items():
            more = {"context": asked.tokens // 2} if fields else {}
            spec = mc.measure(str(weights), str(data), precision=asked.precision, **fields, **more)
            times = [run(asked.folder / f"store{turn}", spec, asked.machine)]
            seconds[way] += times if turn >= 0 else []
        print({way: round(times[-1], 1) for way, times in seconds.items() if times}, flush=True)
    alone = seconds["bits per character"]
    for way, times in seconds.items():
        ratios = [one / base for one, base in zip(times, alone, strict=True)]
        print(f"{way:28} {median(times):7.1f} s   ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def run(store: Path, spec: mc.Recipe, machine: str) -> float:
    """CPU seconds of a measurement in a store: on a GPU, where the CPU waits, they are those of the wall too."""
    ws = mc.Workspace(store, machine=machine)
    start = process_time()
    ws.make(spec)
    return process_time() - start


if __name__ == "__main__":
    main()
