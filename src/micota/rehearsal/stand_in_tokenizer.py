"""A tokenizer that stands in for one that cannot be had: bytes, and the special tokens of Qwen's chats."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
THINKERS = ("r1", "qwq", "qwen3", "think", "reason")
"""Words in the names of models whose templates open the thought themselves."""
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' + '@OPENED@' }}{% endif %}"
)


def thinks(ref: str) -> bool:
    """Whether a model of that name is taken for one that thinks before it answers."""
    return any(word in ref.lower() for word in THINKERS)


def build(ref: str) -> Qwen2Tokenizer:
    """A byte-level tokenizer with a plain ChatML template, for a model of that name."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    symbols = [*sorted(ByteLevel.alphabet()), *SPECIAL]
    return Qwen2Tokenizer(
        vocab={symbol: index for index, symbol in enumerate(symbols)},
        merges=[],
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE.replace("@OPENED@", "<think>\\n" if thinks(ref) else ""),
        clean_up_tokenization_spaces=False,
    )
