"""What a model reads for a request, by its own tokenizer: the same for every engine that has the model's files."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from micota.chat import THOUGHT_END, eos_ids, opened_thought, prompt_ids, render, unread_keywords
from micota.errors import MicotaError
from micota.merging.model_files import GENERATION, read_object
from micota.specs import Generate, OnPolicyDistillation
from micota.store.records import Request


class PromptEncoder:
    """A tokenizer with a spec's prompt settings, and how many tokens the model can hold (None: no limit known)."""

    def __init__(self, spec: Generate | OnPolicyDistillation, tokenizer: Any, config: Any) -> None:
        self.tokenizer = tokenizer
        self.context: int | None = getattr(config, "max_position_embeddings", None) or None
        self._prompt, self._sampling = spec.prompt, spec.sampling
        check_keywords(tokenizer, spec.prompt.template_kwargs)

    @classmethod
    def of_folder(cls, spec: Generate, model: Path) -> PromptEncoder:
        """From a folder that has the tokenizer and the configuration; weights are not needed."""
        import transformers

        trust = spec.trust_remote_code
        tokenizer = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=trust)
        return cls(spec, tokenizer, transformers.AutoConfig.from_pretrained(model, trust_remote_code=trust))

    def render(self, request: Request) -> str:
        """The whole text that the model reads for a request."""
        prompt = self._prompt
        return render(self.tokenizer, request.prompt, prompt.system, prompt.mode, **prompt.template_kwargs)

    def think_prefix(self, request: Request) -> str:
        """The piece of the prompt that already belongs to the response: an opened `<think>`, or nothing."""
        return opened_thought(self.render(request))

    def ids(self, request: Request) -> list[int]:
        """The prompt's tokens. It is an error if there are none, or if they leave no room for an answer."""
        prompt = self._prompt
        ids = prompt_ids(self.tokenizer, request.prompt, prompt.system, prompt.mode, **prompt.template_kwargs)
        if not ids:
            raise MicotaError(f"the prompt of problem {request.key} has no tokens", fix="check the prompt template")
        if self.context is not None and len(ids) >= self.context:
            raise MicotaError(
                f"the prompt of problem {request.key} has {len(ids)} tokens; the model reads {self.context}",
                fix="remove that problem from the set, or take a model with a longer context",
            )
        return ids

    def ends(self, eos: list[int]) -> list[int]:
        """The end-of-sequence tokens, and the stop strings that are special tokens: a text does not show those."""
        special = self.tokenizer.get_added_vocab()
        return list(dict.fromkeys([*eos, *(special[stop] for stop in self._sampling.stop if stop in special)]))

    @cached_property
    def thought_end(self) -> list[int]:
        """The tokens that close a thought which is cut."""
        return self.tokens(THOUGHT_END)

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text that stands in a response."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, tokens: list[int]) -> str:
        """The text of a response's tokens, without special ones."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def room(self, ids: list[int]) -> int:
        """New tokens at most: the spec's max_tokens, as far as the model's context reaches."""
        limit = self._sampling.max_tokens
        return limit if self.context is None else min(limit, self.context - len(ids))

    def most_tokens(self, request: Request) -> int:
        """Tokens of a prompt and its longest answer."""
        ids = self.ids(request)
        return len(ids) + self.room(ids)


def check_keywords(tokenizer: Any, keywords: dict[str, Any]) -> None:
    """Raise MicotaError for keywords that the chat template never reads."""
    if unread := unread_keywords(tokenizer, keywords):
        raise MicotaError(
            f"the chat template of {tokenizer.name_or_path} never reads {', '.join(unread)}",
            why="the model would be asked as without it, and a result would be ascribed to it",
            fix="remove it from template_kwargs, or correct its spelling",
        )


def end_tokens(folder: Path, tokenizer: Any, trust_remote_code: bool = False) -> list[int]:
    """The tokens that end a response of the model in a folder, as `from_pretrained` would find them."""
    import transformers

    if (folder / GENERATION).is_file():
        return eos_ids(SimpleNamespace(eos_token_id=read_object(folder / GENERATION).get("eos_token_id")), tokenizer)
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return eos_ids(transformers.GenerationConfig.from_model_config(config), tokenizer)
