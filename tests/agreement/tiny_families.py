"""Tiny random models of the families of transformers, with one small tokenizer: a base and two models near it."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))
from families import tokenizer

ROWS = 320
NEAR = 0.02
"""The standard deviation of a task vector."""
WHO = ("base", "one", "two")
LLAMA: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "vocab_size": ROWS, "max_position_embeddings": 512},
}
SHORT = {key: LLAMA[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")}
WIDE = {"head_dim": 8}
WINDOW = {"sliding_window": 32}
EVEN = {"router_aux_loss_coef": 0.0}
"""TRL adds the loss that balances a router, with the configuration's own coefficient; a plain loss is without."""
EXPERTS = {**EVEN, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL = {**EVEN, "num_local_experts": 4, "num_experts_per_tok": 2}
GEMMA = {**LLAMA, **WIDE, **WINDOW, "query_pre_attn_scalar": 8}
EYES = {
    **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"image_size": 28, "patch_size": 14},
}
MARKS = {"mm_tokens_per_image": 4, "image_token_index": 310, "boi_token_index": 311, "eoi_token_index": 312}
LATENT = {
    **{"moe_intermediate_size": 16, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2},
    **{"n_shared_experts": 1, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16},
    **{"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
}
SCALED = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0, "attention_multiplier": 0.1}
LINEAR = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "shared_expert_intermediate_size": 16,
}
STEADY = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
"""No dropout, which draws numbers in an order of its own."""
GPT2 = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 512, "vocab_size": ROWS}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", LLAMA),
    "qwen2, tied": ("Qwen2", {**LLAMA, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {**LLAMA, **WIDE}),
    "qwen3_moe": ("Qwen3Moe", {**LLAMA, **WIDE, **EXPERTS}),
    "qwen3_next": ("Qwen3Next", {**LLAMA, **WIDE, **EXPERTS, **LINEAR}),
    "llama": ("Llama", LLAMA),
    "mistral": ("Mistral", {**LLAMA, "sliding_window": 64}),
    "mixtral": ("Mixtral", {**LLAMA, **LOCAL}),
    "gemma": ("Gemma", {**LLAMA, **WIDE}),
    "gemma2": ("Gemma2", GEMMA),
    "gemma3_text": ("Gemma3Text", GEMMA),
    "gemma3": ("Gemma3", {"text_config": GEMMA, "vision_config": EYES, **MARKS}),
    "phi": ("Phi", LLAMA),
    "phi3": ("Phi3", {**LLAMA, "pad_token_id": 0, "original_max_position_embeddings": 512}),
    "cohere": ("Cohere", LLAMA),
    "cohere2": ("Cohere2", {**LLAMA, **WINDOW}),
    "gpt2": ("GPT2", {**GPT2, **STEADY}),
    "gpt_neox": ("GPTNeoX", {**SHORT, "intermediate_size": 64, "max_position_embeddings": 512}),
    "gpt_bigcode": ("GPTBigCode", {**GPT2, **STEADY}),
    "gpt_oss": ("GptOss", {**LLAMA, **WIDE, **LOCAL, **WINDOW}),
    "opt": ("OPT", {**SHORT, "dropout": 0.0, "ffn_dim": 64, "max_position_embeddings": 512, "word_embed_proj_dim": 32}),
    "bloom": ("Bloom", {"hidden_size": 32, "n_layer": 4, "n_head": 4, "vocab_size": ROWS}),
    "falcon": ("Falcon", {**SHORT, "num_kv_heads": 2, "new_decoder_architecture": True}),
    "olmo2": ("Olmo2", LLAMA),
    "granite": ("Granite", {**LLAMA, **SCALED, "tie_word_embeddings": True}),
    "starcoder2": ("Starcoder2", LLAMA),
    "stablelm": ("StableLm", LLAMA),
    "nemotron": ("Nemotron", LLAMA),
    "glm4": ("Glm4", {**LLAMA, **WIDE, "pad_token_id": 0}),
    "deepseek_v3": ("DeepseekV3", {**LLAMA, **LATENT, "num_key_value_heads": 4}),
    "smollm3": ("SmolLM3", {**LLAMA, "pad_token_id": 0}),
    "exaone4": ("Exaone4", {**LLAMA, **WINDOW, "sliding_window_pattern": 4}),
    "mamba": ("Mamba", {"hidden_size": 32, "num_hidden_layers": 4, "vocab_size": ROWS, "state_size": 8}),
}
"""Name -> the class of its configuration, without `Config`, and the settings of a tiny one."""


def build(folder: Path, name: str) -> Path:
    """The folder with `base`, `one` and `two` of a family, in fp32, as transformers saves them."""
    spelling, settings = FAMILIES[name]
    torch.manual_seed(1)
    config = getattr(transformers, f"{spelling}Config")(**copy.deepcopy(settings))
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    words, place = tokenizer("chatml-default"), folder / name.replace(", ", "-")
    for each in (model.config, model.config.get_text_config(), model.generation_config):
        for token in ("eos_token_id", "pad_token_id"):
            setattr(each, token, getattr(words, token))
    start = {key: _start(value, "gemma" in name) for key, value in model.named_parameters()}
    for seed, who in enumerate(WHO):
        torch.manual_seed(10 + seed)
        with torch.no_grad():
            for key, value in model.named_parameters():
                value.copy_(start[key] + (NEAR * torch.randn(value.shape) if seed else 0))
        model.save_pretrained(place / who)
        words.save_pretrained(place / who)
    return place


def _start(value: torch.Tensor, centred: bool) -> torch.Tensor:
    """Large enough that no two logits are near; a norm's weights are around 1, or around 0 where 1 is added."""
    noise = 0.1 * torch.randn(value.shape)
    return noise + 1 if value.dim() == 1 and not centred else noise
