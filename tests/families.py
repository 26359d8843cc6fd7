"""Small real tokenizers with the chat templates of model families, and the data of the linter's tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from micota import checks
from micota.chat import end_id, example

DATA = Path(__file__).parent / "data"
FAMILIES: dict[str, dict[str, Any]] = yaml.safe_load((DATA / "families.yaml").read_text())
PUBLISHED = [name for name, family in FAMILIES.items() if family.get("published")]
ROWS = [
    ("What is 2+2?", "<think>\nTwo and two.\n</think>\n\nIt is $\\boxed{4}$."),
    (
        "\n\nSolve $x^{2}=\\frac{1}{4}$ for {x}.\n\n",
        "<think>\nSo x.\n\n\nWait.\n</think>\n\n\\boxed{\\pm\\frac{1}{2}}\n",
    ),
    ("  Γ(½) ist?  ", "<think>\nπ\n</think>\n\n\n$\\sqrt{\\pi}$ "),
    ("Why </think> <|nothing|>?", "<think>\nHmm\n</think>\n\nAs {{y}}."),
]
MERGES = [("Ċ", "Ċ"), ("Ġ", "Ġ"), ("t", "h"), ("i", "n")]
"""Two line ends, or two spaces, are one token: what a careless tokenization joins across a border."""


def template(name: str, shared: Path | None = None) -> str:
    folder = shared / "templates" if FAMILIES[name].get("published") and shared else DATA / "templates"
    return (folder / f"{name}.jinja").read_text()


def raw_tokenizer(special: list[str], tags: bool = False, bos: str | None = None) -> Tokenizer:
    """Bytes as tokens and a few merges, with special tokens; one that has a first token adds it, as most do."""
    vocab = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {a + b: len(vocab) + i for i, (a, b) in enumerate(MERGES)}
    raw = Tokenizer(models.BPE(vocab, MERGES))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, special=True) for token in special])
    if tags:
        raw.add_tokens([AddedToken(token, special=False) for token in ("<think>", "</think>")])
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, raw.token_to_id(bos))]
        )
    return raw


def tokenizer(name: str, shared: Path | None = None, **changes: Any) -> PreTrainedTokenizerFast:
    """The tokenizer of a family; `changes` replace what its data says."""
    family = {**FAMILIES[name], **changes}
    raw = raw_tokenizer(family["special"], family.get("tags", False), family.get("bos"))
    names = {f"{key}_token": family[key] for key in ("bos", "eos", "pad", "unk") if family.get(key)}
    text = family["template"] if "template" in family else template(name, shared)
    return PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=text, **names)


def subject(name: str, shared: Path | None = None, **changes: Any) -> checks.Subject:
    """A model of a family; besides those of the tokenizer `stops`, `rows` and `context` can be changed."""
    tok = tokenizer(name, shared, **changes)
    stops = changes.get("stops", FAMILIES[name]["stops"])
    eos = [tok.convert_tokens_to_ids(stop) if isinstance(stop, str) else stop for stop in stops]
    config = {"vocab_size": changes.get("rows", len(tok) + 8), "max_position_embeddings": changes.get("context", 4096)}
    return checks.Subject.of(name, tok, {"eos_token_id": eos}, config)


def place(name: str, request: pytest.FixtureRequest) -> Path | None:
    """The shared folder, asked for by families whose template lies there."""
    found: Path | None = request.getfixturevalue("shared") if name in PUBLISHED else None
    return found


def ours(model: checks.Subject, known: bool, system: str | None = None) -> list[dict[str, Any]]:
    """The rows as micota trains on them, with or without their responses as text."""
    end = end_id(model.tokenizer, list(model.eos))
    made = [example(model.tokenizer, *row, system, end) for row in ROWS]
    texts = [{"response": response} for _, response in ROWS] if known else [{}] * len(ROWS)
    return [one | text for one, text in zip(made, texts, strict=True)]


def the(findings: list[checks.Finding], check: str, says: str) -> checks.Finding:
    """The one finding of a planted fault: it names the model, shows strings, and says what to change."""
    assert [one.rule for one in findings] == [check], [str(one) for one in findings]
    assert says in findings[0].what
    assert not re.search(r"\$[a-z]+", findings[0].what + findings[0].why + findings[0].fix), "a value is missing"
    assert findings[0].fix and findings[0].why and findings[0].model in str(findings[0])
    return findings[0]
