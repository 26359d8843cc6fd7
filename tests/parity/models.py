"""Tiny models for the comparison with mergekit: the same numbers wherever this runs, so that none has to be stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HIDDEN, INNER, LAYERS, HEADS, ROWS = 8, 16, 3, 2, 24
FAMILIES = ("qwen2", "llama")
SEEDS = {"base": 1, "one": 2, "two": 3, "far": 4}
"""Three models near each other, and one that has nothing in common with them."""


def build(folder: Path, family: str) -> dict[str, Path]:
    """The four models of a family in fp32, as folders that transformers loads."""
    made = {}
    for name, seed in SEEDS.items():
        path = folder / family / name
        path.mkdir(parents=True, exist_ok=True)
        save_file(_weights(family, seed), path / "model.safetensors", metadata={"format": "pt"})
        (path / "config.json").write_text(json.dumps(_config(family), indent=1))
        made[name] = path
    return made


def _weights(family: str, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    shared, own = np.random.Generator(np.random.PCG64(1)), np.random.Generator(np.random.PCG64(seed))
    found = {}
    for name, shape in sorted(_shapes(family).items()):
        start, step = shared.standard_normal(shape), own.standard_normal(shape)
        near = {1: start, 4: 3 * step}.get(seed, start + 0.1 * step)
        found[name] = near.astype(np.float32)
    return found


def _shapes(family: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (ROWS, HIDDEN), "model.norm.weight": (HIDDEN,)}
    narrow = HIDDEN // HEADS
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        for part, rows in (("q", HIDDEN), ("k", narrow), ("v", narrow)):
            shapes[f"{at}self_attn.{part}_proj.weight"] = (rows, HIDDEN)
            if family == "qwen2":
                shapes[f"{at}self_attn.{part}_proj.bias"] = (rows,)
        shapes[f"{at}self_attn.o_proj.weight"] = (HIDDEN, HIDDEN)
        shapes |= {f"{at}mlp.{part}_proj.weight": (INNER, HIDDEN) for part in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (HIDDEN, INNER)
        shapes |= {f"{at}{part}_layernorm.weight": (HIDDEN,) for part in ("input", "post_attention")}
    return shapes | ({"lm_head.weight": (ROWS, HIDDEN)} if family == "llama" else {})


def _config(family: str) -> dict[str, Any]:
    return {
        "architectures": [{"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}[family]],
        "model_type": family,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 1,
        "vocab_size": ROWS,
        "tie_word_embeddings": family == "qwen2",
        "eos_token_id": 2,
        "dtype": "float32",
    }
