"""Prompts: from a problem to the tokens that a model reads, the same at generation and at training.

A training target is the tokens of the generation prompt, then the response, then the model's end token; so what the
loss covers is exactly what the model has to produce itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from micota.bounded import Bounded
from micota.errors import MicotaError

THOUGHT = ("<think>", "</think>")
THOUGHT_END = f"\n{THOUGHT[1]}\n\n"
"""What is written behind a thought that is cut."""
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""What a message calls the thought that it brings beside its answer."""
SENTINEL = "micota-response"
LONGEST = 2**24
"""Characters of a rendered conversation."""


def render(tokenizer: Any, text: str, system: str | None, mode: str = "chat", /, **keywords: Any) -> str:
    """The whole text before the response: through the model's chat template, or as it is in `raw` mode.

    `keywords` are those of the template, such as `enable_thinking`.
    """
    if mode == "raw":
        return (system or "") + text
    _needs_template(tokenizer)
    return apply_template(tokenizer, _turns(text, system), add_generation_prompt=True, **keywords)


def apply_template(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> str:
    """A conversation as the model's chat template writes it: `apply_chat_template`, within bounds of time and memory.

    A template is a program that came with the model. Raises bounded.Failed for one that raises an error, or does not
    end soon. A tokenizer whose own code renders, which is run by `trust_remote_code` only, is called as it is.
    """
    if _renders_itself(tokenizer):
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    template = tokenizer.get_chat_template(options.pop("chat_template", None))
    rendered = _RENDERING(messages=messages, template=template, options={**tokenizer.special_tokens_map, **options})
    return str(rendered)


def template_text(messages: list[dict[str, str]], template: str, options: dict[str, Any]) -> str:
    """What a chat template writes, by transformers; this runs in a process of its own."""
    from transformers.utils.chat_template_utils import render_jinja_template

    (text,), _ = render_jinja_template([messages], chat_template=template, **options)
    if len(text) > LONGEST:
        raise ValueError(f"it writes {len(text):,} characters, at most {LONGEST:,} are taken")
    return str(text)


def _renders_itself(tokenizer: Any) -> bool:
    from transformers import PreTrainedTokenizerBase

    return getattr(type(tokenizer), "apply_chat_template", None) is not PreTrainedTokenizerBase.apply_chat_template


def unread_keywords(tokenizer: Any, keywords: Iterable[str]) -> list[str]:
    """The keywords that the chat template never reads, in order; none where the tokenizer's own code renders.

    Raises bounded.Failed for a template that is no Jinja.
    """
    if not (wanted := sorted(keywords)) or _renders_itself(tokenizer):
        return []
    read = set(map(str, _KEYWORDS(template=tokenizer.get_chat_template())))
    return [name for name in wanted if name not in read]


def template_keywords(template: str) -> list[str]:
    """The names that a chat template takes from its caller; this runs in a process of its own."""
    from jinja2 import Environment, meta
    from jinja2.ext import loopcontrols

    plain = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", template)  # tags of transformers' own
    return sorted(meta.find_undeclared_variables(Environment(extensions=[loopcontrols]).parse(plain)))


_KEYWORDS = Bounded("micota.chat:template_keywords", 2, 512, needs="jinja2")
_RENDERING = Bounded("micota.chat:template_text", 2, 512, needs="transformers.utils.chat_template_utils")


def opened_thought(rendered: str) -> str:
    """The piece of a rendered prompt that already belongs to the response: an opened `<think>`, or nothing."""
    found = re.search(r"<think>\s*$", rendered)
    return found[0] if found else ""


def answer_begins(text: str, opened: str) -> int:
    """Where the answer of a response begins: behind its thought; at its end as long as the thought is not closed.

    A response thinks if its prompt's template has opened the thought, or if it begins with `<think>`.
    """
    begin, end = THOUGHT
    if not opened and not text.lstrip().startswith(begin):
        return 0
    closed = text.find(end)
    return len(text) if closed < 0 else closed + len(end)


def still_thinks(text: str, opened: str) -> bool:
    """Whether a response is inside its thought."""
    return bool(opened or text.lstrip().startswith(THOUGHT[0])) and THOUGHT[1] not in text


def with_thought(thought: str, answer: str) -> str:
    """A response whose thought came apart from its answer; one that the answer brings too stands there once.

    Without an answer the thought stays open: nothing was answered.
    """
    begin, end = THOUGHT
    if not thought.strip() or answer.lstrip().startswith(begin):
        return answer
    opened = f"{begin}\n{thought.strip(chr(10))}"
    return f"{opened}\n{end}\n\n{answer.lstrip()}" if answer.strip() else opened


def paired(text: str) -> str:
    """The text without lone surrogates, which no file and no tokenizer takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def prompt_ids(tokenizer: Any, text: str, system: str | None, mode: str = "chat", /, **keywords: Any) -> list[int]:
    """The token ids of `render`; a template writes its own special tokens, a raw prompt gets the tokenizer's."""
    rendered = render(tokenizer, text, system, mode, **keywords)
    return list(tokenizer(rendered, add_special_tokens=mode == "raw")["input_ids"])


def token_ids(value: Any, model: str) -> list[int]:
    """The tokens that a configuration names: one id, a list of them, or none."""
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(token, int) and 0 <= token < 2**31 for token in ids):
        raise MicotaError(f"eos_token_id of the model {model} is {str(value)[:80]!r}", fix="write token ids there")
    return ids


def eos_ids(generation_config: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a response: those of the generation config, else the tokenizer's."""
    ids = token_ids(generation_config.eos_token_id, tokenizer.name_or_path)
    if not ids and tokenizer.eos_token_id is not None:
        ids = [tokenizer.eos_token_id]
    if not ids:
        raise MicotaError(f"the model {tokenizer.name_or_path} has no end-of-sequence token", fix="set eos_token_id")
    return ids


def end_id(tokenizer: Any, eos: list[int]) -> int:
    """The token that ends a response: the first of the model's end tokens that its template writes after one."""
    return next((token for token in _after_a_turn(tokenizer) if token in eos), eos[0])


def turn_end(tokenizer: Any) -> int | None:
    """The special token with which the template ends an assistant's turn; None where it writes none."""
    added = {token for token, about in tokenizer.added_tokens_decoder.items() if about.special}
    return next((token for token in _after_a_turn(tokenizer) if token in added), None)


def _after_a_turn(tokenizer: Any) -> list[int]:
    """What the template writes behind an assistant's turn, as tokens; nothing without a template."""
    if not getattr(tokenizer, "chat_template", None):
        return []
    turns = [*_turns("x", None), {"role": "assistant", "content": SENTINEL}]
    after = apply_template(tokenizer, turns).rpartition(SENTINEL)[2]
    return list(tokenizer(after, add_special_tokens=False)["input_ids"])


def example(
    tokenizer: Any, prompt: str, response: str, system: str | None, end: int, /, **keywords: Any
) -> dict[str, list[int]]:
    """One training example: `input_ids`, and `labels` that are -100 but for the response and its end token."""
    rendered = render(tokenizer, prompt, system, "chat", **keywords)
    before = list(tokenizer(rendered, add_special_tokens=False)["input_ids"])
    response = response.removeprefix(opened_thought(rendered))  # never opened twice
    target = [*tokenizer(response, add_special_tokens=False)["input_ids"], end]
    return {"input_ids": before + target, "labels": [-100] * len(before) + target}


def _turns(text: str, system: str | None) -> list[dict[str, str]]:
    first = [] if system is None else [{"role": "system", "content": system}]
    return [*first, {"role": "user", "content": text}]


def _needs_template(tokenizer: Any) -> None:
    if not getattr(tokenizer, "chat_template", None):
        raise MicotaError(
            f"the tokenizer of {tokenizer.name_or_path} has no chat template",
            fix="use `prompt: {mode: raw}`, or a model whose tokenizer has one",
        )
