"""What a model's tokenizer and chat template do to a thought, tried out on one: what the checks do not look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.chat import THOUGHT, apply_template

THINKING = "Wait, three times four is twelve."
RESPONSE = f"{THOUGHT[0]}\n{THINKING}\n{THOUGHT[1]}\n\nThe answer is \\boxed{{12}}."


@dataclass(frozen=True)
class Finding:
    """What a rehearsal found. A fault spoils the run; a note only has to be known."""

    fault: bool
    text: str


def look(name: str, folder: Path, trained: bool, trust: bool) -> list[Finding]:
    """Try a thought on a model's tokenizer; `trained` models are looked at as what a training begins with."""
    import transformers

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    found: list[Finding] = []
    if not _writes(tokenizer, THINKING):
        return found  # a tokenizer of few symbols, as the lab's, has no words for a thought
    if not _writes(tokenizer, RESPONSE):
        what = (
            f"{name}: its tokenizer does not write {THOUGHT[1]} as text: a response's thought and answer run together"
        )
        found.append(Finding(True, what))
    if trained and getattr(tokenizer, "chat_template", None):
        found += _as_a_turn(name, tokenizer)
    return found


def _writes(tokenizer: Any, text: str) -> bool:
    """Whether a text comes back from its tokens, as a response does."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return text in str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _as_a_turn(name: str, tokenizer: Any) -> list[Finding]:
    """Whether the template keeps the thought of an assistant's last turn."""
    turns = [{"role": "user", "content": "3*4?"}, {"role": "assistant", "content": RESPONSE}]
    if THINKING in apply_template(tokenizer, turns):
        return []
    what = (
        f"{name}: its chat template deletes the thought from an assistant's turn. micota joins the response to the "
        "generation prompt, so its targets keep it; a trainer that renders whole turns would learn no thought"
    )
    return [Finding(False, what)]
