"""Fine-tuning and bits per character of a random model of a real shape: tokens in a second, model FLOP utilisation.

    python benchmarks/training.py FOLDER [--shape 1.5b] [--tokens 16384] [--machine one-gpu] [--batch 8] [--steps 8]

On one GPU, Qwen2.5-1.5B's shape at 16K tokens; the shape `tiny` tries the benchmark itself on a CPU:
`--shape tiny --tokens 256 --machine laptop`. The model and the rows are made once in FOLDER; then `micota train` and
`micota measure` run as a user would run them. A step's time is the median from one step's end to the next. Utilisation
counts 6 operations for each entry and token, and attention over half of the square, without what activation
checkpointing does again (Chowdhery et al., arXiv 2204.02311), over the accelerator's dense bf16 rate.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from micota import machine as machines
from micota.architectures import KNOWN, Architecture, of_config
from micota.costs.accelerators import find
from micota.lab.tokenizer import build

SHAPES = {"1.5b": "Qwen/Qwen2.5-1.5B-Instruct", "3b": "Qwen/Qwen2.5-3B-Instruct", "7b": "Qwen/Qwen2.5-7B-Instruct"}
TINY = Architecture("qwen2", 64, 128, 2, 2, 1, 32, 1024, True, 32_768, True)


def model(folder: Path, shape: Architecture) -> None:
    """A random model in bf16 with the lab's tokenizer, whose vocabulary is padded to the shape's."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, Qwen2Config

    tokenizer = build()
    config = Qwen2Config(
        **shape.config,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    made.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rows(path: Path, number: int, tokens: int) -> None:
    """Responses of about `tokens` tokens; a character is a token of the lab."""
    draw = random.Random(0)
    with open(path, "w") as file:
        for i in range(number):
            text = "".join(draw.choice("0123456789+*=;") for _ in range(tokens - 64))
            file.write(json.dumps({"prompt": f"{i}+1", "response": text}) + "\n")


def micota(*words: object) -> None:
    subprocess.run([Path(sys.executable).parent / "micota", *map(str, words)], check=True)


def facts(store: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of the newest artifact of a kind, and what made it."""
    newest = max(store.glob(f"artifacts/{kind}-*/manifest.json"), key=lambda path: path.stat().st_mtime)
    found = json.loads(newest.read_text())
    return found["facts"], found["made"]


def model_flops(shape: Architecture, tokens: float, row: float) -> float:
    """Forward and backward of so many tokens in rows of `row` tokens, with causal attention."""
    return tokens * (6 * (shape.linear + shape.head) + 6 * shape.layers * shape.heads * shape.head_dim * row)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=["tiny", *SHAPES], default="1.5b")
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--machine", default="one-gpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    asked = parser.parse_args()
    shape = TINY if asked.shape == "tiny" else KNOWN[SHAPES[asked.shape]]
    folder, store = asked.folder, asked.folder / "store"
    if not (folder / "model" / "config.json").is_file():
        model(folder / "model", shape)
    assert of_config(json.loads((folder / "model" / "config.json").read_text())) == shape
    data = folder / f"rows-{asked.tokens}.jsonl"
    rows(data, 2 * asked.batch, asked.tokens)
    common = ("--machine", asked.machine, "--store", store)
    sets = [f"batch={asked.batch}", f"max_steps={asked.steps}", f"cutoff={asked.tokens}"]
    out = folder / f"trained-{asked.tokens}-{asked.batch}-{asked.steps}"
    micota("train", folder / "model", data, "--out", out, *common, *(word for one in sets for word in ("--set", one)))
    told, made = facts(store, "train")
    profile = machines.load(asked.machine)
    place = profile.train
    device = find(profile.hardware)
    each = told["tokens"] / told["examples"]
    rate = each * asked.batch / told["seconds_of_a_step"]
    share = model_flops(shape, rate, each) / (device.flops * place.devices)
    print(
        f"train: {rate:,.0f} tokens/s in rows of {each:,.0f} on {told['distributed']}, {device.name}: MFU {share:.1%}"
    )
    micota("measure", folder / "model", data, "--out", folder / "measured.jsonl", *common)
    told, made = facts(store, "bpc")
    print(f"bpc: {told['tokens'] / made['seconds']:,.0f} response tokens/s, the model's loading included")


if __name__ == "__main__":
    main()
