"""Shapes of decoder-only transformers: how many parameters of which size, from a config.json or for known Hub ids.

The table holds the configurations of the paper's models as they are published, so that costs and rehearsals need no
network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """A dense transformer with gated feed-forward layers and grouped-query attention, as Qwen2 and Llama are."""

    model_type: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rows: int  # of the embedding: the vocabulary with its padding
    tied: bool
    context: int
    attention_bias: bool

    @property
    def config(self) -> dict[str, Any]:
        """The entries of config.json that say this: the inverse of `of_config`."""
        return {
            "model_type": self.model_type,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.rows,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.context,
        }

    @property
    def linear(self) -> int:
        """Entries of all matrices inside the layers."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner)

    @property
    def head(self) -> int:
        """Entries of the output matrix, which a tied model shares with its embedding."""
        return self.rows * self.hidden

    @property
    def parameters(self) -> int:
        """All entries, each once."""
        bias = self.head_dim * (self.heads + 2 * self.kv_heads) if self.attention_bias else 0
        norms = (2 * self.layers + 1) * self.hidden
        return self.linear + self.layers * bias + norms + self.head * (1 if self.tied else 2)

    @property
    def tensors(self) -> dict[str, tuple[int, ...]] | None:
        """Names and shapes of all weights by transformers' names; None where they are not known here for certain."""
        if self.model_type not in ("qwen2", "llama", "mistral") or self.attention_bias != (self.model_type == "qwen2"):
            return None
        hidden, inner, q, kv = self.hidden, self.inner, self.heads * self.head_dim, self.kv_heads * self.head_dim
        names = {"embed_tokens.weight": (self.rows, hidden), "norm.weight": (hidden,)}
        each = {"q": (q, hidden), "k": (kv, hidden), "v": (kv, hidden), "o": (hidden, q)}
        mlp = {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}
        for layer in (f"layers.{i}" for i in range(self.layers)):
            names |= {f"{layer}.self_attn.{name}_proj.weight": shape for name, shape in each.items()}
            names |= {f"{layer}.self_attn.{n}_proj.bias": each[n][:1] for n in ("q", "k", "v") if self.attention_bias}
            names |= {f"{layer}.mlp.{name}_proj.weight": shape for name, shape in mlp.items()}
            names |= {f"{layer}.{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
        head = {} if self.tied else {"lm_head.weight": (self.rows, hidden)}
        return {f"model.{name}": shape for name, shape in names.items()} | head

    @property
    def kv_per_token(self) -> int:
        """Entries of the key-value cache for each token."""
        return 2 * self.layers * self.kv_heads * self.head_dim


def of_config(config: Mapping[str, Any]) -> Architecture | None:
    """The shape that a config.json describes; None for one that is not dense, or of another build."""
    experts = any(config.get(name) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    if experts or not all(isinstance(config.get(name), int) for name in needed):
        return None
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    model_type = str(config.get("model_type", ""))
    return Architecture(
        model_type=model_type,
        hidden=hidden,
        inner=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or hidden // heads,
        rows=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
        context=config.get("max_position_embeddings") or 0,
        attention_bias=bool(config.get("attention_bias", model_type == "qwen2")),
    )


def _qwen2(hidden: int, inner: int, layers: int, heads: int, kv_heads: int, context: int = 32_768) -> Architecture:
    small = hidden < 3_000  # the small ones tie their embedding, and pad it less
    rows = 151_936 if small else 152_064
    return Architecture(
        "qwen2", hidden, inner, layers, heads, kv_heads, 128, rows, tied=small, context=context, attention_bias=True
    )


KNOWN: dict[str, Architecture] = {
    "Qwen/Qwen2.5-1.5B-Instruct": _qwen2(1536, 8960, 28, 12, 2),
    "Qwen/Qwen2.5-3B-Instruct": _qwen2(2048, 11_008, 36, 16, 2),
    "Qwen/Qwen2.5-7B-Instruct": _qwen2(3584, 18_944, 28, 28, 4),
    "Qwen/Qwen2.5-14B-Instruct": _qwen2(5120, 13_824, 48, 40, 8),
    "Qwen/Qwen2.5-14B": _qwen2(5120, 13_824, 48, 40, 8, context=131_072),
    "Qwen/Qwen2.5-32B-Instruct": _qwen2(5120, 27_648, 64, 40, 8),
    "Qwen/QwQ-32B": _qwen2(5120, 27_648, 64, 40, 8, context=40_960),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _qwen2(3584, 18_944, 28, 28, 4, context=131_072),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": _qwen2(5120, 27_648, 64, 40, 8, context=131_072),
}
