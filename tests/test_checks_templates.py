"""The chat templates that TRL ships, as their models have them: no error is found in any, and each planted one is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trl
from families import raw_tokenizer
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from micota import checks
from micota.chat import THOUGHT, end_id, example

FOLDER = Path(trl.__file__).parent / "chat_templates"
IMAGES = ("idefics3", "llava_next", "smolvlm")  # they take no text as a message
NAMES = sorted(path.stem for path in FOLDER.glob("*.jinja") if not path.stem.startswith(IMAGES))
MARKER = re.compile(
    r"<\|[^\s<>|'\"]{1,40}\|>|<｜[^\s<>｜]{1,40}｜>|</?s>|<(?:bos|eos|start_of_turn|end_of_turn)>|<turn\|>"
)
TRUE = {("changes", "warning"), ("generation-prompt", "warning")}
"""What some of them do: they write the date, or close the thought at once."""
BEGIN = ("<|begin_of_text|>", "<s>", "<｜begin▁of▁sentence｜>", "<|startoftext|>")


def published(
    name: str,
    text: str | None = None,
    *,
    stops: list[str] | None = None,
    split: Sequence[str] = (),
    special: Sequence[str] = (),
    strips: Sequence[str] = (),
    tags: bool = False,
    **names: Any,
) -> checks.Subject:
    """A model whose vocabulary has the markers of a template, and that stops at the first of them after an answer.

    The other arguments are what a fault changes: the template's text, `eos`, tokens that are missing or have flags.
    """
    original = (FOLDER / f"{name}.jinja").read_text()
    markers = sorted(set(MARKER.findall(original)))
    bos = next((marker for marker in BEGIN if marker in markers), "<bos>")
    eos = "<eos>" if "<eos>" in markers else "<|endoftext|>"
    vocabulary = [token for token in dict.fromkeys([*markers, bos, eos, "<pad>", "<base>"]) if token not in split]
    raw = raw_tokenizer(vocabulary)
    if tags or "think>" in original:
        own_tags = [tag for tag in THOUGHT if tag not in split]
        raw.add_tokens([AddedToken(tag, special=tag in special, rstrip=tag in strips) for tag in own_tags])
    own = {"bos_token": bos, "eos_token": names.get("eos", eos), "pad_token": "<pad>"}
    tok = PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=original, **own)
    plain = checks.Subject.of(name, tok)
    around = plain.around_answer
    ends = MARKER.findall(around[1] if around else "") or MARKER.findall(plain.between_turns) or [eos]
    tok.chat_template = text or original
    ids = tok.convert_tokens_to_ids(ends[:1] if stops is None else stops)
    return checks.Subject.of(name, tok, {"eos_token_id": [one for one in ids if one is not None]})


@pytest.mark.parametrize("name", NAMES)
def test_a_published_template_has_no_error(name: str) -> None:
    healthy = published(name)
    found = checks.check_model(healthy)
    assert {(one.rule, one.severity) for one in found} <= TRUE, found
    thought = "<think>\nThree and four.\n</think>\n\nIt is \\boxed{7}."
    rows = [example(healthy.tokenizer, "What is 3+4?", thought, None, end_id(healthy.tokenizer, list(healthy.eos)))]
    assert checks.check_examples(healthy, rows) == []


def test_of_several_ends_side_by_side_any_is_enough() -> None:
    cohere = published("cohere2")
    for end in ("<|END_RESPONSE|>", "<|END_OF_TURN_TOKEN|>"):
        stops = {"eos_token_id": cohere.tokenizer.convert_tokens_to_ids(end)}
        assert checks.errors(checks.check_model(checks.Subject.of("cohere2", cohere.tokenizer, stops))) == []
    phi = published("phi3")  # a line end stands between its two
    stops = {"eos_token_id": phi.tokenizer.convert_tokens_to_ids("<|endoftext|>")}
    assert [one.rule for one in checks.check_model(checks.Subject.of("phi3", phi.tokenizer, stops))] == ["end"]


def test_an_end_that_only_the_next_turn_shows_is_warned_of() -> None:
    glm = published("glm4moe")
    stops = {"eos_token_id": glm.tokenizer.convert_tokens_to_ids("<|endoftext|>")}
    (found,) = checks.check_model(checks.Subject.of("glm4moe", glm.tokenizer, stops))
    assert found.severity == "warning" and "<|user|>, which its chat template writes after an answer" in found.what
