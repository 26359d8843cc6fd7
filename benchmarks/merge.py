"""Merging two random checkpoints of a real shape, against the floor of the disk and against mergekit.

    python benchmarks/merge.py FOLDER [--shape 1.5b|7b] [--rounds 3] [--cold] [--mergekit .venv-mergekit/bin/python]

Every round runs, one after the other in a changing order and each as a process of its own: the copy floor (read both
checkpoints, write one; with one thread, and with as many as the merge), `micota merge` with inverse_density (one pass
over the inputs), with L1 (two passes: its floor reads both twice), and mergekit where its Python is given. All but
mergekit end with fsync. The inputs are in the page cache where they fit (1.5b), and are sparse files for 7b; with
--cold they are dropped from it before each run, like models that nobody has just written or that do not fit into
memory. Reported: wall and CPU seconds, peak of anonymous memory, and their ratios to the floors of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SHAPES = {
    "1.5b": {"hidden": 1536, "inner": 8960, "layers": 28, "kv": 256, "rows": 151_936, "tied": True},
    "7b": {"hidden": 3584, "inner": 18_944, "layers": 28, "kv": 512, "rows": 152_064, "tied": False},
}
SHARD = 4_000_000_000
BLOCK = 2**21


@dataclass
class Run:
    """One process: its seconds, and its peak of anonymous memory in MiB."""

    wall: float
    cpu: float
    anonymous: float


def shapes(of: str) -> dict[str, tuple[int, ...]]:
    """The tensors of a Qwen2.5 of that size."""
    s = SHAPES[of]
    hidden, inner, kv = s["hidden"], s["inner"], s["kv"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (s["rows"], hidden)}
    for i in range(s["layers"]):
        at = f"model.layers.{i}."
        for part, rows in (("q", hidden), ("k", kv), ("v", kv)):
            found |= {f"{at}self_attn.{part}_proj.weight": (rows, hidden), f"{at}self_attn.{part}_proj.bias": (rows,)}
        found[f"{at}self_attn.o_proj.weight"] = (hidden, hidden)
        found |= {f"{at}mlp.{part}_proj.weight": (inner, hidden) for part in ("gate", "up")}
        found[f"{at}mlp.down_proj.weight"] = (hidden, inner)
        found |= {f"{at}{part}_layernorm.weight": (hidden,) for part in ("input", "post_attention")}
    found["model.norm.weight"] = (hidden,)
    return found if s["tied"] else found | {"lm_head.weight": (s["rows"], hidden)}


def make(folder: Path, of: str, seed: int) -> Path:
    """A checkpoint: random for 1.5b, sparse (all zero) for 7b; made once."""
    import torch

    from micota.merging.safetensor_files import Entry
    from micota.merging.shards import ShardFile, lay_out, write_index

    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    s, entries = SHAPES[of], [Entry(name, "BF16", shape) for name, shape in shapes(of).items()]
    shards = lay_out(folder, entries, SHARD)
    for shard in shards:
        if of == "7b":
            shard.file.write_bytes(shard.header)
            os.truncate(shard.file, shard.nbytes)
            continue
        generator = torch.Generator().manual_seed(7)
        own = torch.Generator().manual_seed(seed)
        file = ShardFile(shard)
        for entry in shard.entries:
            base = 0.02 * torch.randn(entry.numel, generator=generator)
            tensor = (base + 0.001 * seed * torch.randn(entry.numel, generator=own)).bfloat16()
            file.put(entry, 0, tensor.view(torch.uint8).numpy())
        file.finish()
    write_index(folder, shards)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": s["hidden"],
        "intermediate_size": s["inner"],
        "num_hidden_layers": s["layers"],
        "num_attention_heads": s["hidden"] // 128,
        "num_key_value_heads": s["kv"] // 128,
        "vocab_size": s["rows"],
        "tie_word_embeddings": s["tied"],
        "dtype": "bfloat16",
        "eos_token_id": 151_645,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def copy(first: Path, second: Path, out: Path, passes: int, threads: int) -> None:
    """The floor: read both checkpoints as often as said, write the second, fsync."""
    out.mkdir(parents=True, exist_ok=True)
    files = [(file, None) for file in sorted(first.glob("*.safetensors"))] * passes
    files += [(file, None) for file in sorted(second.glob("*.safetensors"))] * (passes - 1)
    opened = [(os.open(file, os.O_RDONLY), None, file.stat().st_size) for file, _ in files]
    for file in sorted(second.glob("*.safetensors")):
        target = os.open(out / file.name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        opened.append((os.open(file, os.O_RDONLY), target, file.stat().st_size))

    memory = threading.local()

    def piece(item: tuple[int, int | None, int]) -> None:
        source, target, start = item
        memory.data = getattr(memory, "data", None) or bytearray(BLOCK)
        size = os.preadv(source, [memory.data], start)
        if target is not None:
            os.pwrite(target, memoryview(memory.data)[:size], start)

    with ThreadPoolExecutor(threads) as pool:
        for source, target, size in opened:
            list(pool.map(piece, ((source, target, start) for start in range(0, size, BLOCK))))
            if target is not None:
                os.fsync(target)


def forget(folder: Path) -> None:
    """Drop a folder's files from the page cache: the next to read them waits for the disk."""
    for file in folder.iterdir():
        opened = os.open(file, os.O_RDONLY)
        os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(opened)


def measure(command: list[str]) -> Run:
    before = os.times()
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = [0.0]

    def watch() -> None:
        while process.poll() is None:
            try:
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            except OSError:
                return
            peak[0] = max([peak[0], *(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))])
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    wall = time.perf_counter() - begin
    watcher.join()
    assert code == 0, f"{command} ended with {code}"
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(wall, cpu, peak[0])


def config(folder: Path, rescale: object) -> Path:
    file = folder / f"{rescale}.yml"
    file.write_text(
        f"merge_method: dare_ties\nbase_model: {folder}/base\nmodels:\n  - model: {folder}/tuned\n"
        f"    parameters: {{weight: 0.6, density: 0.7}}\nparameters: {{rescale: {rescale}}}\ndtype: bfloat16\n"
    )
    return file


def contenders(folder: Path, threads: int, mergekit: str | None) -> dict[str, list[str]]:
    """The command of each, as a process of its own; what it writes goes to FOLDER/out."""
    here, out = [sys.executable, __file__, str(folder), "--threads", str(threads)], str(folder / "out")
    merge = [sys.executable, "-m", "micota", "merge", "--threads", str(threads)]
    alone = [*here[:-1], "1", "--copy"]
    found = {
        "floor, one thread": [*alone, "1"],
        "floor, two passes, one thread": [*alone, "2"],
        "floor": [*here, "--copy", "1"],
        "micota, inverse_density": [*merge, str(config(folder, "inverse_density")), out],
        "floor, two passes": [*here, "--copy", "2"],
        "micota, l1": [*merge, str(config(folder, "l1")), out],
    }
    if mergekit:
        run = "import sys; from mergekit.scripts.run_yaml import main; sys.argv = ['mergekit', *sys.argv[1:]]; main()"
        found["mergekit, l1"] = [mergekit, "-c", run, str(config(folder, "true")), out, "--no-copy-tokenizer"]
    return found


def report(runs: dict[str, list[Run]]) -> None:
    print(f"{'medians':32}{'wall s':>8}{'CPU s':>8}{'anon MiB':>10}   wall over the floor's, one thread's; CPU over")
    for name, found in runs.items():
        floor = "floor, two passes" if "l1" in name or "two" in name else "floor"
        ratios = [
            statistics.median(
                getattr(run, what) / getattr(base, what) for run, base in zip(found, runs[of], strict=True)
            )
            for what, of in (("wall", floor), ("wall", f"{floor}, one thread"), ("cpu", floor))
        ]
        wall, cpu = (statistics.median(getattr(run, what) for run in found) for what in ("wall", "cpu"))
        each = " ".join(f"{run.wall:.1f}" for run in found)
        print(f"{name:32}{wall:8.1f}{cpu:8.1f}{max(run.anonymous for run in found):10.0f}   "
              f"{ratios[0]:.2f}, {ratios[1]:.2f}; {ratios[2]:.2f}   (each: {each})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="1.5b")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--mergekit")
    parser.add_argument("--copy", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    if asked.copy:
        copy(folder / "base", folder / "tuned", folder / "out", asked.copy, asked.threads)
        return
    for name, seed in (("base", 0), ("tuned", 1)):
        make(folder / name, asked.shape, seed)
    commands = contenders(folder, asked.threads, asked.mergekit)
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for turn in range(asked.rounds):
        for name in list(commands)[:: 1 if turn % 2 == 0 else -1]:
            shutil.rmtree(folder / "out", ignore_errors=True)
            os.sync()
            for name_of_input in ("base", "tuned") if asked.cold else ():
                forget(folder / name_of_input)
            runs[name].append(measure(commands[name]))
            print(f"round {turn + 1}: {name}: {runs[name][-1]}", flush=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    report(runs)


main()
