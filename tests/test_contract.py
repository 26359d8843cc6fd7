"""One contract for every engine that serves the same weights: the lab's teacher in float32, greedy.

vLLM and its server are asked where vLLM is installed: `make test-vllm`.
"""

from __future__ import annotations

import importlib.util
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Quiet
from killing import Killed, soak

from micota.errors import MicotaError
from micota.generation.engine import Engine, open_engine
from micota.machine import GenerateConfig, MachineProfile
from micota.recipe import recipe as recipes
from micota.run.execution import Run
from micota.specs import Generate, Problems, Prompt, Sampling, Source
from micota.store.artifacts import Store
from micota.store.records import Completion, Request, text_key
from micota.store.resolution import LAB_MODELS
from micota.worlds.workings import problems

TEACHER = LAB_MODELS / "teacher"
SOURCE = Source(ref="lab:teacher", revision="1", path=str(TEACHER))
KNOWN: set[str] = set()
"""The keys of rows whose texts differ between engines: near ties, which another order of additions decides."""
LIMIT = 200  # of the teacher's answers about a half are longer
NAMES = ["transformers", "vllm", "openai"]
vllm_only = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
ENGINES = [pytest.param(name, marks=[vllm_only] if name != "transformers" else []) for name in NAMES]
pytestmark = [pytest.mark.timeout(600)]
if importlib.util.find_spec("vllm"):
    pytestmark.append(pytest.mark.filterwarnings("default"))  # vLLM's imports warn of much


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher with a chat template of two modes; without a keyword it writes what the teacher's own does."""
    folder = tmp_path_factory.mktemp("hybrid") / "teacher"
    shutil.copytree(TEACHER, folder)
    with open(folder / "chat_template.jinja", "a", encoding="utf-8") as template:
        template.write("{% if steps is defined and not steps %}1+1={% endif %}")
    return folder


@pytest.fixture(scope="module")
def server(hybrid: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server with the teacher, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    from micota.generation.vllm import ENVIRONMENT

    settings = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "64"]
    named = ["--model", str(hybrid), "--served-model-name", "teacher", "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *named, *settings]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment(ENVIRONMENT))
    try:
        while not healthy(port):
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def environment(more: dict[str, str]) -> dict[str, str]:
    import os

    return {**os.environ, **more, "OMP_NUM_THREADS": "1"}


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def spec(prompt: Prompt | None = None, **sampling: Any) -> Generate:
    return Generate(
        model=SOURCE,
        problems=Problems(source=SOURCE),
        prompt=prompt or Prompt(template="{problem}"),
        sampling=Sampling(**{"max_tokens": LIMIT, **sampling}),
        precision="float32",
    )


def place(name: str, request: pytest.FixtureRequest) -> GenerateConfig:
    url = request.getfixturevalue("server") if name == "openai" else None
    return GenerateConfig(engine=name, url=url, served="teacher", batch=32)  # type: ignore[arg-type]


def asked(n: int = 48) -> list[Request]:
    """Problems, one of them twice, and one with characters that the lab's tokenizer does not know."""
    texts = [p["problem"] for p in problems(n)]
    found = [Request(text_key(text), 0, text) for text in texts]
    return [*found, Request(found[0].key, 1, found[0].prompt), Request("ü", 0, texts[1] + "∞\U0001f600é数")]


def answers(made: Engine, wanted: list[Request]) -> dict[tuple[str, int], Completion]:
    found = [answer for group in made.answer(wanted) for answer in group]
    assert sorted((a.key, a.sample) for a in found) == sorted((r.key, r.sample) for r in wanted)
    return {(answer.key, answer.sample): answer for answer in found}


@pytest.fixture(scope="module")
def reference() -> dict[tuple[str, int], Completion]:
    return answers(open_engine(spec(), TEACHER, GenerateConfig(), 1), asked())


@pytest.fixture(scope="module", params=ENGINES)
def made(request: pytest.FixtureRequest) -> Iterator[Engine]:
    opened = open_engine(spec(), TEACHER, place(request.param, request), 1)
    yield opened
    opened.close()


def test_texts_ends_and_counts_are_equal(made: Engine, reference: dict[tuple[str, int], Completion]) -> None:
    found = answers(made, asked())
    assert {a.finish_reason for a in found.values()} == {"stop", "length"}
    assert {a.completion_tokens for a in found.values() if a.finish_reason == "length"} == {LIMIT}
    differing = {key for key, _ in found if key not in KNOWN and not same(found, reference, key)}
    assert differing == set()
    assert {key: a.prompt for key, a in found.items()} == {(r.key, r.sample): r.prompt for r in asked()}


def same(one: dict[tuple[str, int], Completion], other: dict[tuple[str, int], Completion], key: str) -> bool:
    def told(a: Completion) -> tuple[Any, ...]:
        return a.text, a.finish_reason, a.prompt_tokens, a.completion_tokens, a.think_prefix, a.sha

    return all(told(one[pair]) == told(other[pair]) for pair in one if pair[0] == key)


def test_a_second_call_and_its_rendered_prompt(made: Engine) -> None:
    again = asked(3)
    assert made.render(again[0]) == f"<bos><user>{again[0].prompt}<assistant>"
    assert len(answers(made, again)) == 5


@pytest.mark.parametrize("name", ENGINES)
def test_the_mode_of_a_template_reaches_the_prompt(name: str, hybrid: Path, request: pytest.FixtureRequest) -> None:
    """Greedy texts in each mode are those of transformers; the modes differ in the prompt and in the texts."""
    found: dict[bool, dict[tuple[str, int], Completion]] = {}
    known: dict[bool, dict[tuple[str, int], Completion]] = {}
    for steps in (True, False):
        prompt = Prompt(template="{problem}", template_kwargs={"steps": steps})
        for where, made in ((found, place(name, request)), (known, GenerateConfig())):
            opened = open_engine(spec(prompt, max_tokens=40), hybrid, made, 1)
            assert opened.render(asked(2)[0]).endswith("<assistant>" if steps else "<assistant>1+1=")
            where[steps] = answers(opened, asked(6))
            opened.close()
    assert all(same(found[steps], known[steps], key) for steps in found for key, _ in found[steps])
    for pair, one in found[True].items():
        assert found[False][pair].prompt_tokens == one.prompt_tokens + 4
    assert [one.text for one in found[True].values()] != [one.text for one in found[False].values()]


def test_an_over_long_prompt_is_refused_by_its_key(made: Engine) -> None:
    with pytest.raises(MicotaError, match=r"problem abc has \d+ tokens; the model reads 1024"):
        answers(made, [*asked(2), Request("abc", 0, "1+" * 600)])


@pytest.fixture(scope="module", params=ENGINES)
def other(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Raw prompts, drawn, with a stop string."""
    raw = Prompt(template="{problem}", mode="raw")
    wanted = spec(raw, stop=("Hmm",), temperature=2.0, top_p=0.95, top_k=8, seed=3, max_tokens=60)
    opened = open_engine(wanted, TEACHER, place(request.param, request), 1)
    yield opened
    opened.close()


def test_a_stop_string_ends_a_drawn_answer_and_is_left_out(other: Engine) -> None:
    one = asked(2)[0]
    wanted = [Request(one.key, sample, f"<bos><user>{one.prompt}<assistant>") for sample in range(12)]
    found = answers(other, wanted)
    assert other.render(wanted[0]) == wanted[0].prompt
    assert not [a.text for a in found.values() if "Hmm" in a.text]
    assert "stop" in {a.finish_reason for a in found.values()}
    assert len({a.text for a in found.values()}) > 1  # samples are drawn apart
    again = answers(other, wanted)
    assert [again[k].text for k in found] == [a.text for a in found.values()]  # and drawn again from the same seed


def test_a_stop_string_does_not_end_a_thought(other: Engine) -> None:
    """The tokenizer leaves the opening of the thought out, so the model answers as ever; micota knows of it."""
    one = asked(2)[0]
    prompt = f"<bos><user>{one.prompt}<assistant><think>\n"
    found = answers(other, [Request(one.key, sample, prompt) for sample in range(12)]).values()
    assert {answer.think_prefix for answer in found} == {"<think>\n"}
    assert [answer.text for answer in found if "Hmm" in answer.text]


def test_an_empty_prompt_is_refused_by_its_key(other: Engine) -> None:
    with pytest.raises(MicotaError, match="the prompt of problem none has no tokens"):
        answers(other, [Request("none", 0, "")])


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights that says whole characters of many scripts, of one to four bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    splits = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for char in "éß∞≤数学한글😀𝔸":
        symbols = splits.pre_tokenize_str(char)[0][0]
        for end in range(2, len(symbols) + 1):
            if symbols[:end] not in vocabulary:
                merges.append((symbols[: end - 1], symbols[end - 1]))
                vocabulary[symbols[:end]] = len(vocabulary)
    raw = Tokenizer(BPE(vocabulary, merges))
    raw.pre_tokenizer, raw.decoder = splits, decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}:"
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    config = Qwen2Config(
        vocab_size=len(tokenizer), num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=False,
        initializer_range=0.6, **shape, **ends,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    whole = {i for i in vocabulary.values() if "\ufffd" not in (said := raw.decode([i])) and not said.isascii()}
    with torch.no_grad():
        for i in set(range(len(tokenizer))) - whole:
            model.lm_head.weight[i] = 0  # neither ASCII nor a part of a character is ever the most likely
    model.generation_config = GenerationConfig(**ends)
    folder = tmp_path_factory.mktemp("speaker")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@vllm_only
def test_characters_of_many_bytes_stay_whole(speaker: Path) -> None:
    turns = [f"{i} ∞ 数 😀 é" for i in range(16)]
    wanted = [Request(text_key(turn), 0, turn) for turn in turns]
    found = {}
    for name in ("transformers", "vllm"):
        opened = open_engine(spec(max_tokens=60), speaker, GenerateConfig(engine=name), 1)  # type: ignore[arg-type]
        found[name] = answers(opened, wanted)
        opened.close()
    texts = "".join(a.text for a in found["vllm"].values())
    assert "\ufffd" not in texts
    assert len(set(texts) - set(map(chr, range(128)))) > 4
    assert {k: a.text for k, a in found["vllm"].items()} == {k: a.text for k, a in found["transformers"].items()}


RECIPE = """
name: moved
let:
  set: {problems: {source: "lab:arithmetic", split: test, n: 24}}
  answers: {generate: {model: "lab:teacher", problems: set, prompt: "{problem}", precision: float32,
                       sampling: {max_tokens: 200}}}
"""


@pytest.mark.parametrize("name", [pytest.param("openai", marks=vllm_only)])
def test_the_machine_alone_moves_a_recipe(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    (tmp_path / "moved.yaml").write_text(RECIPE)
    answered = recipes.load(str(tmp_path / "moved.yaml")).named("answers")
    made = {}
    for engine, at in (("transformers", GenerateConfig()), (name, place(name, request))):
        store = Store(tmp_path / engine)
        Run(store, MachineProfile(generate=at), Quiet()).go([answered])
        made[engine] = manifest = store.manifest(answered)
        assert manifest is not None
        rows = [row for path in store.root.glob("pools/*/*.jsonl") for row in path.read_text().splitlines()]
        assert len(rows) == 24
        assert {Completion.parse(row).engine.split()[0] for row in rows} == {engine}
        assert manifest.facts["first_prompt"].endswith("<assistant>")
    one, two = made.values()
    assert one is not None and two is not None
    assert one.digest == two.digest
    assert one.content == two.content


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), [("transformers", 48), pytest.param("vllm", 160, marks=vllm_only)])
def test_killed_at_random_moments_every_key_is_there_once(name: str, n: int, tmp_path: Path) -> None:
    killed = Killed(tmp_path / "killed", f"{{engine: {name}, batch: 4}}", n=n)
    done = soak(killed, kills=5, rows=8, seed=random.Random(name).randint(0, 99))
    assert done["kills"] == 5
    calm = Killed(tmp_path / "calm", "{engine: transformers, batch: 4}", n=n)
    calm.finish()
    assert killed.content() == calm.content()
