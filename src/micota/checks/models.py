"""A model as the checks see it: tokenizer, template, EOS tokens, embedding rows and positions, but no weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from string import Template
from typing import Any

from micota.chat import apply_template, render, token_ids
from micota.checks.finding import Finding, Severity, messages
from micota.errors import MicotaError
from micota.merging.model_files import read_object
from micota.specs import Prompt, Sampling

PROBLEM, ANSWER = "micota-problem", "micota-response"
EDGES = ("1", "x", "\nx\n", " x ", "}", "\n\n2", "Y")
"""Problems whose first and last characters a tokenizer may join with what the template writes beside them."""
TAG = r"</?think>"
MARKER = re.compile(
    r"<\|[^\s<>|]{1,40}\|>|<｜[^\s<>｜]{1,40}｜>|</?(?:s|think)>|<(?:bos|eos|start_of_turn|end_of_turn)>"
)
"""What should be one token where a template writes it."""


class Refused(Exception):
    """The chat template raised an error."""


@dataclass(frozen=True)
class Use:
    """How a recipe uses a model: it generates (then there is a `sampling`) or it is trained (then a `cutoff`)."""

    where: str
    prompt: Prompt = field(default_factory=Prompt)
    sampling: Sampling | None = None
    cutoff: int | None = None


@dataclass(frozen=True)
class Shape:
    """A generation prompt is `head`, the problem, `tail`; of their tokens, those that no problem changes."""

    head: str
    tail: str
    head_ids: tuple[int, ...]
    tail_ids: tuple[int, ...]
    at_start_only: bool
    """Whether `head_ids` stand at the start only, also in a conversation of several messages."""


@dataclass(frozen=True)
class Subject:
    """A model without its weights. `eos` are the tokens at which its generation stops."""

    name: str
    tokenizer: Any
    eos: tuple[int, ...]
    rows: int | None = None
    """Rows of the embedding; None if unknown."""
    context: int | None = None
    """Positions of the model; None if unknown."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keywords with which its chat template is rendered, such as `enable_thinking`."""

    @classmethod
    def of(cls, name: str, tokenizer: Any, generation: Any = None, config: Any = None) -> Subject:
        """A subject of objects or plain dicts; without a generation config, `config` has the EOS tokens."""
        eos = token_ids(_get(generation if generation is not None else config, "eos_token_id"), name)
        if not eos and tokenizer.eos_token_id is not None:
            eos = [tokenizer.eos_token_id]
        rows, context = (number(config, key) for key in ("vocab_size", "max_position_embeddings"))
        return cls(name, tokenizer, tuple(eos), rows, context)

    @classmethod
    def beside(cls, name: str, tokenizer: Any, folder: Path) -> Subject:
        """The subject of a tokenizer and of the configurations in a model folder."""
        paths = (folder / "generation_config.json", folder / "config.json")
        return cls.of(name, tokenizer, *(read_object(path) or None for path in paths))

    @classmethod
    def read(cls, name: str, folder: Path, trust_remote_code: bool = False) -> Subject:
        """The subject of a model folder. Raises MicotaError if its tokenizer cannot be loaded."""
        import transformers

        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
            tokenizer(PROBLEM)
        except Exception as error:
            what = f"the tokenizer of {name} cannot be loaded: {error}"
            fix = "name the folder that AutoTokenizer.from_pretrained loads"
            raise MicotaError(what, where=str(folder), fix=fix) from error
        return cls.beside(name, tokenizer, folder)

    def finding(
        self, name: str, *evidence: tuple[str, str], severity: Severity | None = None, **values: Any
    ) -> Finding:
        """A finding on this model: the message of this name, filled with values; evidence is pairs of (label, text)."""
        message = messages()[name]
        parts = (message[part] for part in ("what", "why", "fix"))
        what, why, fix = (Template(part).safe_substitute(values, model=self.name) for part in parts)
        usual: Any = message.get("severity", "error")
        return Finding(message.get("rule", name), self.name, what, why, fix, evidence, severity or usual)

    @cached_property
    def special(self) -> frozenset[int]:
        """The tokens that are markers and not pieces of words."""
        return frozenset(map(int, [*self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()]))

    @cached_property
    def hidden(self) -> frozenset[str]:
        """The tokens that a decoded response does not show."""
        added = self.tokenizer.added_tokens_decoder.values()
        return frozenset({str(token) for token in added if token.special} | set(self.tokenizer.all_special_tokens))

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without those that a tokenizer adds by itself."""
        return [int(token) for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def text(self, ids: Any) -> str:
        """The text of tokens, special ones included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def names(self, ids: Any) -> str:
        """Tokens by name, for messages."""
        names = [self.tokenizer.convert_ids_to_tokens(int(token)) for token in ids]
        pairs = zip(names, ids, strict=True)
        return ", ".join(str(name) if name is not None else f"id {token}" for name, token in pairs)

    def prompt(self, problem: str, system: str | None = None) -> str:
        """The generation prompt as text. Raises Refused."""
        return _rendered(lambda: render(self.tokenizer, problem, system, "chat", **self.template_kwargs))

    def conversation(self, *messages: tuple[str, str], **options: Any) -> str:
        """A whole conversation of (role, content), as the template writes it. Raises Refused."""
        chat = [{"role": role, "content": content} for role, content in messages]
        return _rendered(lambda: apply_template(self.tokenizer, chat, **{**self.template_kwargs, **options}))

    def answers_at_once(self, prompt: str) -> bool:
        """Whether its keywords were asked for, and a prompt with them has closed the thought."""
        return bool(self.template_kwargs) and prompt.rstrip().endswith("</think>")

    def asked_with(self, template_kwargs: Mapping[str, Any]) -> Subject:
        """The same model with other keywords of its chat template."""
        return self if template_kwargs == self.template_kwargs else replace(self, template_kwargs=template_kwargs)

    @cached_property
    def around_answer(self) -> tuple[str, str] | None:
        """What the template writes before and after an answer; None if it refuses one, or loses or repeats it."""
        before, answer, after = self._written(("user", PROBLEM), ("assistant", ANSWER)).partition(ANSWER)
        return (before, after) if answer and ANSWER not in after else None

    @cached_property
    def between_turns(self) -> str:
        """What the template writes between an answer and the next problem; "" if it refuses them."""
        turns = self._written(("user", "1"), ("assistant", ANSWER), ("user", PROBLEM))
        return turns.partition(ANSWER)[2].partition(PROBLEM)[0]

    def _written(self, *messages: tuple[str, str]) -> str:
        try:
            return self.conversation(*messages) if self.has_template else ""
        except Refused:
            return ""

    @cached_property
    def ends(self) -> list[int]:
        """The markers that the template writes side by side after an answer; [] where it writes none."""
        return self.markers(self.around_answer[1]) if self.around_answer else []

    def markers(self, text: str) -> list[int]:
        """The first markers of a text, without anything between them."""
        ids = self.ids(text)
        first = next((i for i, token in enumerate(ids) if token in self.special or token in self.eos), len(ids))
        return ids[first : first + 1] + list(takewhile(lambda token: token in self.special, ids[first + 1 :]))

    @cached_property
    def next_turn(self) -> str:
        """What opens the turn after an answer, such as `<|im_start|>user`, if it holds a marker; else nothing."""
        after = self.around_answer[1].rstrip() if self.around_answer else ""
        turn = self.between_turns.removeprefix(after).strip()
        return turn if self.special & set(self.ids(turn)) else ""

    def shape(self, system: str | None = None) -> Shape | None:
        """The shape of the generation prompt; None if the problem does not stand in it once. Raises Refused."""
        whole = self.prompt(PROBLEM, system)
        if whole.count(PROBLEM) != 1:
            return None
        head, _, tail = whole.partition(PROBLEM)
        prompts = [self.ids(self.prompt(problem, system)) for problem in EDGES]
        first = _common(prompts)
        last = _common([ids[len(first) :][::-1] for ids in prompts])[::-1]
        return Shape(head, tail, tuple(first), tuple(last), self._is_at_start_only(first))

    def _is_at_start_only(self, head: list[int]) -> bool:
        messages = (("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"))
        try:
            return bool(head) and occurrences(self.ids(self.conversation(*messages)), head) == [0]
        except Refused:
            return False


def occurrences(ids: Sequence[int], part: Sequence[int]) -> list[int]:
    """Where a sequence of tokens begins in another."""
    size = len(part)
    return [at for at in range(len(ids) - size + 1) if ids[at] == part[0] and list(ids[at : at + size]) == list(part)]


def without_thought_tags(text: str) -> str:
    """A prompt without thought tags and white space at its end."""
    return re.sub(rf"(\s|{TAG})*$", "", text)


def closed_thought(text: str) -> bool:
    """Whether a prompt ends with an empty thought, so that the response has none."""
    return bool(re.search(r"<think>\s*</think>\s*$", text))


def _rendered(rendering: Callable[[], Any]) -> str:
    try:
        return str(rendering())
    except Exception as error:  # a template is somebody else's program: it can raise anything
        raise Refused(str(error) or type(error).__name__) from error


def _common(rows: list[list[int]]) -> list[int]:
    """The beginning that all rows share."""
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))]


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def number(config: Any, name: str) -> int | None:
    """A number of a config, or of the language model's part of a multimodal one; None if there is none."""
    values = (_get(config, name), _get(_get(config, "text_config"), name))
    return next((value for value in values if isinstance(value, int) and value > 0), None)
