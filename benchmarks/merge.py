"""Merging random checkpoints of a real shape: against a plain copy, against mergekit, and in how much memory.

    python benchmarks/merge.py FOLDER [--shape 1.5b|7b] [--rounds 3] [--mergekit PYTHON] [--only EXPRESSION]

Every round runs, one after the other in a changing order and each as a process of its own: the copy (read two
checkpoints, write one, with one thread) and DARE-TIES of one task vector with `micota merge`, both from memory and from
the disk (the inputs are dropped from the page cache before, like models that nobody has just written); then every
method with `micota merge`, and those of PAIRS with mergekit where its Python is given. All but mergekit end with fsync;
libraries compute with one thread. The inputs are random for 1.5b and sparse files for 7b. Reported: wall and CPU
seconds, peak of anonymous memory, and three bars, whose ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SHAPES = {
    "1.5b": {"hidden": 1536, "inner": 8960, "layers": 28, "kv": 256, "rows": 151_936, "tied": True},
    "7b": {"hidden": 3584, "inner": 18_944, "layers": 28, "kv": 512, "rows": 152_064, "tied": False},
}
SHARD = 4_000_000_000
BLOCK = 2**21
MODELS = ("base", "one", "two")
THIN = {"weight": 0.5, "density": 0.7}
METHODS: dict[str, tuple[str, int, dict[str, object], dict[str, object]]] = {
    "dare_ties": ("dare_ties", 1, THIN, {}),
    "dare_ties, two vectors": ("dare_ties", 2, THIN, {}),
    "ties, two vectors": ("ties", 2, THIN, {}),
    "slerp": ("slerp", 1, {}, {"t": 0.4}),
    "linear, three models": ("linear", 2, {"weight": 0.3}, {"weight": 0.3}),
    "task_arithmetic, two vectors": ("task_arithmetic", 2, {"weight": 0.5}, {}),
    "della, two vectors": ("della", 2, THIN, {}),
    "breadcrumbs, two vectors": ("breadcrumbs", 2, THIN, {"rescale": True}),
    "sce, two vectors": ("sce", 2, {}, {"select_topk": 0.5}),
    "model_stock, two vectors": ("model_stock", 2, {}, {}),
    "nuslerp, two vectors": ("nuslerp", 2, {"weight": 0.5}, {}),
    "passthrough": ("passthrough", 0, {}, {}),
}
"""Method, task vectors, parameters of each model, parameters of all. The rescale of dare_ties is mergekit's own, L1."""
PAIRS = ("dare_ties", "dare_ties, two vectors", "ties, two vectors", "slerp", "linear, three models")
"""Those that mergekit merges too."""
COPY, SINGLE = "copy, one thread", "dare_ties, inverse_density"
DISK = " from the disk"


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


def copy(folder: Path) -> None:
    """The floor: read two checkpoints, write the second, fsync; with one thread."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    memory = bytearray(BLOCK)
    for name in ("base", "one"):
        for file in sorted((folder / name).glob("*.safetensors")):
            source = os.open(file, os.O_RDONLY)
            target = os.open(folder / "out" / file.name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC) if name == "one" else -1
            for start in range(0, file.stat().st_size, BLOCK):
                size = os.preadv(source, [memory], start)
                if target >= 0:
                    os.pwrite(target, memoryview(memory)[:size], start)
            if target >= 0:
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
    alone = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=alone)
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
    errors = process.communicate()[1]
    wall = time.perf_counter() - begin
    watcher.join()
    assert process.returncode == 0, f"{command} ended with {process.returncode}: {errors.decode()[-2000:]}"
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(wall, cpu, peak[0])


def config(folder: Path, name: str, **changes: object) -> Path:
    """A configuration of METHODS, which mergekit reads too."""
    method, count, own, shared = METHODS[name]
    file = folder / f"{name} {len(changes)}.yml"
    listed = [{"model": f"{folder}/{model}", "parameters": own} for model in MODELS[1 : count + 1]]
    text = {"merge_method": method, "base_model": f"{folder}/base", "models": listed}
    if method in ("linear", "passthrough"):
        listed.insert(0, {"model": text.pop("base_model"), "parameters": own})
    file.write_text(json.dumps(text | {"parameters": shared | changes, "dtype": "bfloat16"}))
    return file


def contenders(folder: Path, threads: int, mergekit: str | None) -> dict[str, list[str]]:
    """The command of each, as a process of its own; what it writes goes to FOLDER/out."""
    out = str(folder / "out")
    merge = [sys.executable, "-m", "micota", "merge", "--threads", str(threads)]
    single = [*merge, str(config(folder, "dare_ties", rescale="inverse_density")), out]
    plain = {COPY: [sys.executable, __file__, str(folder), "--copy"], SINGLE: single}
    found = plain | {name + DISK: command for name, command in plain.items()}
    found |= {name: [*merge, str(config(folder, name)), out] for name in METHODS}
    if mergekit:
        run = "import sys; from mergekit.scripts.run_yaml import main; sys.argv = ['mergekit', *sys.argv[1:]]; main()"
        for name in PAIRS:
            found[f"mergekit: {name}"] = [mergekit, "-c", run, str(config(folder, name)), out, "--no-copy-tokenizer"]
    return found


def ratio(runs: dict[str, list[Run]], name: str, over: str, what: str) -> float:
    """The median over the rounds of one figure of two contenders."""
    pairs = zip(runs[name], runs[over], strict=True)
    return statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)


def report(runs: dict[str, list[Run]]) -> None:
    print(f"{'medians':42}{'wall s':>8}{'CPU s':>8}{'anon MiB':>10}   each: wall, CPU")
    for name, found in runs.items():
        wall, cpu = (statistics.median(getattr(run, what) for run in found) for what in ("wall", "cpu"))
        each = "; ".join(f"{run.wall:.1f}, {run.cpu:.1f}" for run in found)
        print(f"{name:42}{wall:8.1f}{cpu:8.1f}{max(run.anonymous for run in found):10.0f}   {each}")
    for where in ("", DISK):
        if {COPY + where, SINGLE + where} <= runs.keys():
            times = ratio(runs, SINGLE + where, COPY + where, "wall")
            print(f"{SINGLE}{where or ' from memory'}: {times:.2f} times the copy with one thread (bar: at most 1.6)")
    for name in PAIRS:
        if {name, f"mergekit: {name}"} <= runs.keys():
            times = ratio(runs, f"mergekit: {name}", name, "cpu")
            print(f"{name}: mergekit takes {times:.2f} times as much CPU (bar: at least 3)")
    ours = {name: max(run.anonymous for run in found) for name, found in runs.items() if "mergekit" not in name}
    most = max(ours, key=lambda name: ours[name], default="nothing")
    print(f"anonymous memory: at most {ours.get(most, 0):.0f} MiB, in {most} (bar: 300)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="1.5b")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--mergekit")
    parser.add_argument("--only", default="", help="run those whose name this regular expression finds")
    parser.add_argument("--copy", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    if asked.copy:
        copy(folder)
        return
    for seed, name in enumerate(MODELS):
        make(folder / name, asked.shape, seed)
    commands = {n: c for n, c in contenders(folder, asked.threads, asked.mergekit).items() if re.search(asked.only, n)}
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for turn in range(asked.rounds):
        for name in list(commands)[:: 1 if turn % 2 == 0 else -1]:
            shutil.rmtree(folder / "out", ignore_errors=True)
            os.sync()
            for model in MODELS if name.endswith(DISK) else ():
                forget(folder / model)
            runs[name].append(measure(commands[name]))
            print(f"round {turn + 1}: {name}: {runs[name][-1]}", flush=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    report(runs)


main()
