"""What the linter looks at: a tokenizer with what its model stops at, can embed and can hold; and how it is used.

A model folder is read without its weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.specs import Prompt, Sampling


@dataclass(frozen=True)
class Use:
    """How a recipe uses a model: it asks it (with a `sampling`), or it trains it (with a `cutoff`)."""

    where: str
    prompt: Prompt = field(default_factory=Prompt)
    sampling: Sampling | None = None
    cutoff: int | None = None


@dataclass(frozen=True)
class Subject:
    """A model without its weights. `eos` are the tokens that its generation stops at."""

    name: str
    tokenizer: Any
    eos: tuple[int, ...]
    rows: int | None = None
    """Rows of the embedding; None if not known."""
    context: int | None = None
    """Positions that the model has; None if not known."""

    @cached_property
    def special(self) -> frozenset[int]:
        """The tokens that stand for markers and not for pieces of words."""
        known = {int(one) for one in self.tokenizer.all_special_ids}
        return frozenset(known | {int(one) for one in self.tokenizer.get_added_vocab().values()})

    @cached_property
    def hidden(self) -> frozenset[str]:
        """The tokens that a decoded answer does not show."""
        added = self.tokenizer.added_tokens_decoder.values()
        return frozenset({str(one) for one in added if one.special} | set(self.tokenizer.all_special_tokens))

    def ids(self, text: str) -> list[int]:
        return [int(one) for one in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def text(self, ids: Any) -> str:
        shown = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(shown)

    def names(self, ids: Any) -> str:
        """Tokens by name, for messages."""
        known = [self.tokenizer.convert_ids_to_tokens(int(one)) for one in ids]
        return ", ".join(str(name) if name is not None else f"id {one}" for name, one in zip(known, ids, strict=True))


def of(name: str, tokenizer: Any, generation: Any = None, config: Any = None) -> Subject:
    """A subject of objects or plain dicts. Without a generation config the config says what ends a response."""
    found = _get(generation if generation is not None else config, "eos_token_id")
    ids = [found] if isinstance(found, int) else list(found or [])
    if not ids and tokenizer.eos_token_id is not None:
        ids = [tokenizer.eos_token_id]
    rows, context = (_number(config, key) for key in ("vocab_size", "max_position_embeddings"))
    return Subject(name, tokenizer, tuple(int(one) for one in ids), rows, context)


def read(name: str, folder: Path, trust_remote_code: bool = False) -> Subject:
    """The subject of a model folder."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise MicotaError(
            f"the tokenizer of {name} cannot be loaded: {error}",
            where=str(folder),
            fix="give the folder that AutoTokenizer.from_pretrained loads",
        ) from error
    return beside(name, tokenizer, folder)


def beside(name: str, tokenizer: Any, folder: Path) -> Subject:
    """The subject of a tokenizer and of the configurations in its model's folder."""
    config, generation = (_json(folder / file) for file in ("config.json", "generation_config.json"))
    return of(name, tokenizer, generation, config)


def _json(path: Path) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _number(config: Any, name: str) -> int | None:
    """A number of a config, or of the language model's part of one that sees pictures too."""
    found = _get(config, name) or _get(_get(config, "text_config"), name)
    return int(found) if found else None
