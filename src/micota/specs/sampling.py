"""How a model is prompted: the user message made of a problem, and the sampling of tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from micota.chat import answer_begins
from micota.specs.spec import FrozenModel

DEFAULT_PROMPT = "{problem}\nPlease reason step by step, and put your final answer within \\boxed{}."


class Sampling(FrozenModel):
    """How tokens are sampled; without n, so that more samples join the same pool. Greedy decoding ignores the rest."""

    temperature: float = Field(0.0, ge=0, description="the sampling temperature; 0 is greedy decoding")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling; 1 is off")
    top_k: int = Field(0, ge=0, description="sample from the k likeliest tokens; 0 is off")
    max_tokens: int = Field(16_384, ge=1, description="the most new tokens, by the tokenizer of the model that answers")
    seed: int = Field(0, description="the random seed; greedy decoding has none")
    stop: Annotated[tuple[str, ...], Field(strict=False)] = Field((), description="strings that end a response")
    repetition_penalty: float = Field(
        1.0,
        gt=0,
        description="divide the logits of tokens that prompt or response hold already (arXiv 1909.05858); 1 is off",
    )
    stop_in_thought: bool = Field(
        False, description="stop strings also end the text inside <think>, as in the paper's harness"
    )

    thinking_budget: int | None = Field(
        None,
        ge=1,
        description="cut a thought (<think>) after so many new tokens, close it and let the model answer "
        "(arXiv 2501.19393)",
    )

    @model_validator(mode="after")
    def _leaves_room_for_an_answer(self) -> Sampling:
        if self.thinking_budget is not None and self.thinking_budget >= self.max_tokens:
            raise ValueError(f"thinking_budget leaves no tokens for the answer: max_tokens is {self.max_tokens}")
        return self

    @model_validator(mode="after")
    def _stops_say_something(self) -> Sampling:
        if "" in self.stop:
            raise ValueError("a stop string is empty: nothing would ever be written")
        return self

    def stop_place(self, text: str, opened: str) -> int | None:
        """Where the first stop string begins that ends the response; one inside the thought does not, unless asked to.

        `opened` is the part of the rendered prompt that already belongs to the response, such as `<think>`.
        """
        begin = 0 if self.stop_in_thought else answer_begins(text, opened)
        places = [place for stop in self.stop if (place := text.find(stop, begin)) >= 0]
        return min(places, default=None)

    @model_validator(mode="before")
    @classmethod
    def _greedy_is_one(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("temperature", 0):
            return {k: v for k, v in data.items() if k not in ("top_p", "top_k", "seed")}
        return data


class Keywords(dict[str, Any]):
    """Keywords of a chat template with their values: a mapping that can stand in a set."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


OURS = (
    *("messages", "conversation", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize"),
    *("tools", "documents", "padding", "truncation", "max_length", "return_tensors", "return_dict"),
    *("return_assistant_tokens_mask", "tokenizer_kwargs", "raise_exception", "strftime_now"),
)
"""What micota or transformers gives a template, or takes from its caller for itself."""


SPELT = ("true", "false", "yes", "no", "on", "off")
"""Texts by which somebody means a truth value: each is true in a template."""


def _keywords(values: dict[str, Any]) -> Keywords:
    for name, value in values.items():
        if name in OURS or name.endswith("_token"):
            raise ValueError(f"'{name}' would override what micota gives every chat template; leave it out")
        if not name.isidentifier():
            raise ValueError(f"'{name}' is no keyword of a chat template; write a name such as enable_thinking")
        if not isinstance(value, bool | int | float | str) or value != value:
            raise ValueError(f"{name} is {value!r:.80}; a text, a number, true or false is expected")
        if str(value).strip().lower() in SPELT and not isinstance(value, bool):
            raise ValueError(f"{name} is the text {value!r}, which a template takes for true; write true or false")
    return Keywords(values)


TemplateKwargs = Annotated[dict[str, Any], AfterValidator(_keywords), Field(validate_default=True)]


class Prompt(FrozenModel):
    """The user message made of a problem."""

    template: str = Field(DEFAULT_PROMPT, description="the text; `{problem}` stands for the problem")
    mode: Literal["chat", "raw"] = Field(
        "chat", description="chat: through the model's chat template; raw: the text as it is"
    )
    system: str | None = Field(None, description="the system message; without it the chat template's own")
    template_kwargs: TemplateKwargs = Field(
        {}, description="keywords of the model's chat template, such as `{enable_thinking: false}`"
    )

    @model_validator(mode="before")
    @classmethod
    def _a_string_is_the_template(cls, data: Any) -> Any:
        return {"template": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _has_a_place(self) -> Prompt:
        if "{problem}" not in self.template:
            raise ValueError("the prompt has no {problem}: every problem would get the same text")
        if self.mode == "raw" and self.template_kwargs:
            raise ValueError("mode: raw goes through no chat template: leave template_kwargs out")
        return self

    def user_message(self, problem: str) -> str:
        """The text of the user message. Only `{problem}` is replaced: braces of LaTeX stay as they are."""
        return self.template.replace("{problem}", problem)


PromptField = Annotated[Prompt, Field(strict=False)]
SamplingField = Annotated[Sampling, Field(strict=False)]
"""Fields of a spec that also take a mapping, a prompt also a string."""
