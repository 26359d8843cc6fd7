"""The engines: every request answered once, end and limit told apart, draws that depend on the row alone."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Timer

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.errors import MicotaError, Stopped
from micota.generation.engine import open_engine
from micota.generation.transformers import Transformers
from micota.machine import EngineConfig
from micota.specs import Generate, Problems, Prompt, Sampling, Source
from micota.store.records import Completion, Request, text_key
from micota.store.resolution import LAB_MODELS
from micota.worlds.workings import problems

SOURCE = Source(ref="x", revision="y")
TA = LAB_MODELS / "ta"


def engine(model: Path = TA, mode: str = "chat", **sampling: object) -> Transformers:
    spec = Generate(
        model=SOURCE,
        problems=Problems(source=SOURCE),
        prompt=Prompt(template="{problem}", mode=mode),  # type: ignore[arg-type]
        sampling=Sampling(**sampling),  # type: ignore[arg-type]
        precision="float32",
    )
    made = open_engine(spec, model, EngineConfig(), threads=1)
    assert isinstance(made, Transformers)
    return made


def requests(n: int) -> list[Request]:
    return [Request(text_key(p["problem"]), 0, p["problem"]) for p in problems(n)]


def answers(made: Transformers, wanted: list[Request]) -> dict[tuple[str, int], Completion]:
    found = [answer for group in made.answer(wanted) for answer in group]
    assert len(found) == len(wanted)
    return {(answer.key, answer.sample): answer for answer in found}


def test_greedy_texts_are_those_of_a_bare_generate(tmp_path: Path) -> None:
    wanted = requests(6)
    got = answers(engine(max_tokens=200), wanted)
    tokenizer = AutoTokenizer.from_pretrained(TA)
    model = AutoModelForCausalLM.from_pretrained(TA, dtype=torch.float32)
    for request in wanted:
        turn = [{"role": "user", "content": request.prompt}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        out = model.generate(**ids, max_new_tokens=200, do_sample=False)[0, ids["input_ids"].shape[1] :]
        answer = got[request.key, 0]
        assert answer.text == tokenizer.decode(out, skip_special_tokens=True)
        assert answer.completion_tokens == len(out)
        assert answer.prompt_tokens == ids["input_ids"].shape[1]
        assert answer.finish_reason == "stop"


def test_a_row_that_meets_the_limit_says_length_and_has_all_its_tokens() -> None:
    for limit in (5, 64, 65):
        found = answers(engine(LAB_MODELS / "teacher", max_tokens=limit), requests(3)).values()
        assert {(answer.finish_reason, answer.completion_tokens) for answer in found} == {("length", limit)}


def test_rounds_change_no_text() -> None:
    whole = answers(engine(LAB_MODELS / "teacher", max_tokens=300), requests(4))
    cut = answers(engine(LAB_MODELS / "teacher", max_tokens=150), requests(4))
    for key, answer in cut.items():
        assert whole[key].text.startswith(answer.text)


def test_a_stop_string_ends_a_row_and_is_left_out() -> None:
    found = answers(engine(max_tokens=100, stop=(";",)), requests(4)).values()
    assert {answer.finish_reason for answer in found} == {"stop"}
    assert not [answer.text for answer in found if ";" in answer.text or "=" not in answer.text]


def test_a_stop_string_in_the_prompt_stops_nothing() -> None:
    wanted = requests(1)
    across = wanted[0].prompt[-1] + "<assistant>"  # the last characters of the prompt as the model reads it
    (answer,) = answers(engine(max_tokens=100, stop=(across,)), wanted).values()
    assert answer.text.endswith("}")


def test_a_draw_depends_on_seed_key_and_sample_and_not_on_its_batch() -> None:
    made = engine(max_tokens=60, temperature=1.5, seed=3)
    one = requests(1)[0]
    samples = [Request(one.key, sample, one.prompt) for sample in range(4)]
    together = answers(made, samples)
    assert len({answer.text for answer in together.values()}) > 1
    alone = answers(made, samples[2:3])
    assert alone[one.key, 2].text == together[one.key, 2].text
    assert answers(engine(max_tokens=60, temperature=1.5, seed=4), samples[2:3]) != alone


def test_draws_follow_the_models_distribution() -> None:
    made = engine(LAB_MODELS / "student", max_tokens=1, temperature=2.0)
    one = requests(1)[0]
    drawn = [a.text for a in answers(made, [Request(one.key, i, one.prompt) for i in range(2000)]).values()]
    ids = torch.tensor([made._encoder.ids(one)])
    with torch.inference_mode():
        shares = torch.softmax(made._model(ids).logits[0, -1] / 2.0, -1)
    for token in shares.topk(4).indices.tolist():
        text, share = made._encoder.tokenizer.decode([token], skip_special_tokens=True), float(shares[token])
        assert drawn.count(text) / 2000 == pytest.approx(share, abs=4 * (share * (1 - share) / 2000) ** 0.5 + 1e-3)


def test_an_over_long_prompt_is_refused_by_its_key(models: Path) -> None:
    request = Request("abc", 0, "1+" * 600)
    with pytest.raises(MicotaError, match=r"problem abc has \d+ tokens; the model reads 512"):
        answers(engine(models / "student", max_tokens=5), [request])


def test_a_request_to_stop_is_heard_within_a_batch() -> None:
    stop = Event()
    spec = Generate(
        model=SOURCE, problems=Problems(source=SOURCE), prompt=Prompt(template="{problem}"), precision="float32"
    )
    made = open_engine(spec, TA, EngineConfig(), threads=1, stop=stop)
    Timer(0.1, stop.set).start()
    with pytest.raises(Stopped):
        for _ in range(1000):
            list(made.answer(requests(4)))


def test_raw_mode_sends_the_bare_text() -> None:
    assert engine(mode="raw").render(Request("k", 0, "12+3")) == "12+3"
    assert engine().render(Request("k", 0, "12+3")) == "<bos><user>12+3<assistant>"
