"""What a model reads for a request, by its own tokenizer: the same for every engine that has the model's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from micota.chat import eos_ids, opened_thought, prompt_ids, render
from micota.errors import MicotaError
from micota.specs import Generate
from micota.store.records import Request


class PromptEncoder:
    """A tokenizer with the way in which a spec asks, and how many tokens the model can hold (None: no limit known)."""

    def __init__(self, spec: Generate, tokenizer: Any, context: int | None) -> None:
        self.tokenizer, self.context = tokenizer, context
        self._prompt, self._limit = spec.prompt, spec.sampling.max_tokens
        self._stops = spec.sampling.stop

    def render(self, request: Request) -> str:
        return render(self.tokenizer, request.prompt, self._prompt.system, self._prompt.mode)

    def opened(self, request: Request) -> str:
        """The piece of the prompt that already belongs to the response."""
        return opened_thought(self.render(request))

    def ids(self, request: Request) -> list[int]:
        """The prompt's tokens. One that is empty, or leaves no room for an answer, is refused by its problem's key."""
        ids = prompt_ids(self.tokenizer, request.prompt, self._prompt.system, self._prompt.mode)
        if not ids:
            raise MicotaError(f"the prompt of problem {request.key} has no tokens", fix="check the prompt template")
        if self.context is not None and len(ids) >= self.context:
            raise MicotaError(
                f"the prompt of problem {request.key} has {len(ids)} tokens; the model reads {self.context}",
                fix="remove that problem from the set, or take a model with a longer context",
            )
        return ids

    def ends(self, eos: list[int]) -> list[int]:
        """The end tokens, and the special tokens that the spec names as stop strings: a text does not show those."""
        special = self.tokenizer.get_added_vocab()
        return list(dict.fromkeys([*eos, *(special[stop] for stop in self._stops if stop in special)]))

    def room(self, ids: list[int]) -> int:
        """New tokens at most: as many as are asked for, as far as the model's context reaches."""
        return self._limit if self.context is None else min(self._limit, self.context - len(ids))


def context_of(config: Any) -> int | None:
    """The positions that a model's configuration has."""
    found = getattr(config, "max_position_embeddings", None)
    return int(found) if found else None


def end_tokens(folder: Path, tokenizer: Any, trust_remote_code: bool = False) -> list[int]:
    """The tokens that end a response of the model in a folder, as `from_pretrained` would find them."""
    import transformers

    try:
        config = transformers.GenerationConfig.from_pretrained(folder)
    except OSError:  # a model need not have one
        read = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        config = transformers.GenerationConfig.from_model_config(read)
    return eos_ids(config, tokenizer)


def read_folder(spec: Generate, model: Path) -> PromptEncoder:
    """The reading of a folder that has the tokenizer and the configuration; weights are not looked at."""
    import transformers

    trust = spec.trust_remote_code
    tokenizer = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=trust)
    config = transformers.AutoConfig.from_pretrained(model, trust_remote_code=trust)
    return PromptEncoder(spec, tokenizer, context_of(config))
