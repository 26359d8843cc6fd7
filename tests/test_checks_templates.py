"""The chat templates that TRL ships, as their models have them: no error is found in any, and each planted one is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trl
from families import raw_tokenizer
from transformers import PreTrainedTokenizerFast

from micota import checks
from micota.chat import end_id, example

FOLDER = Path(trl.__file__).parent / "chat_templates"
IMAGES = ("idefics3", "llava_next", "smolvlm")  # they take no text as a message
NAMES = sorted(path.stem for path in FOLDER.glob("*.jinja") if not path.stem.startswith(IMAGES))
MARKER = re.compile(
    r"<\|[^\s<>|'\"]{1,40}\|>|<｜[^\s<>｜]{1,40}｜>|</?s>|<(?:bos|eos|start_of_turn|end_of_turn)>|<turn\|>"
)
BEGIN = ("<|begin_of_text|>", "<s>", "<｜begin▁of▁sentence｜>", "<|startoftext|>")


def model(name: str) -> checks.Subject:
    """A model whose vocabulary has the markers of a template, and that stops at the first of them after an answer."""
    text = (FOLDER / f"{name}.jinja").read_text()
    markers = sorted(set(MARKER.findall(text)))
    bos = next((marker for marker in BEGIN if marker in markers), "<bos>")
    eos = "<eos>" if "<eos>" in markers else "<|endoftext|>"
    raw = raw_tokenizer(list(dict.fromkeys([*markers, bos, eos, "<pad>"])), tags="think>" in text)
    tok = PreTrainedTokenizerFast(
        tokenizer_object=raw, chat_template=text, bos_token=bos, eos_token=eos, pad_token="<pad>"
    )
    plain = checks.Subject.of(name, tok)
    around = plain.around_answer()
    ends = MARKER.findall(around[1] if around else "") or MARKER.findall(plain.between_turns()) or [eos]
    return checks.Subject.of(name, tok, {"eos_token_id": tok.convert_tokens_to_ids(ends[0])})


@pytest.mark.parametrize("name", NAMES)
def test_a_published_template_has_no_error(name: str) -> None:
    healthy = model(name)
    assert checks.errors(checks.check_model(healthy)) == []
    thought = "<think>\nThree and four.\n</think>\n\nIt is \\boxed{7}."
    rows = [example(healthy.tokenizer, "What is 3+4?", thought, None, end_id(healthy.tokenizer, list(healthy.eos)))]
    assert checks.errors(checks.check_examples(healthy, rows)) == []


def test_of_several_ends_side_by_side_any_is_enough() -> None:
    cohere = model("cohere2")
    for end in ("<|END_RESPONSE|>", "<|END_OF_TURN_TOKEN|>"):
        stops = {"eos_token_id": cohere.tokenizer.convert_tokens_to_ids(end)}
        assert checks.errors(checks.check_model(checks.Subject.of("cohere2", cohere.tokenizer, stops))) == []
    phi = model("phi3")  # a line end stands between its two
    stops = {"eos_token_id": phi.tokenizer.convert_tokens_to_ids("<|endoftext|>")}
    assert [one.rule for one in checks.check_model(checks.Subject.of("phi3", phi.tokenizer, stops))] == ["end"]


def test_an_end_that_only_the_next_turn_shows_is_warned_of() -> None:
    glm = model("glm4moe")
    stops = {"eos_token_id": glm.tokenizer.convert_tokens_to_ids("<|endoftext|>")}
    (found,) = checks.check_model(checks.Subject.of("glm4moe", glm.tokenizer, stops))
    assert found.severity == "warning" and "<|user|>, which its chat template writes after an answer" in found.what
