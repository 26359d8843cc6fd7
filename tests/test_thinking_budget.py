"""A thought that is cut at its budget, closed and followed by an answer, as plain transformers writes it."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from families import tokenizer as family_tokenizer

import micota as mc
from micota.errors import MicotaError
from micota.generation.engine import open_engine
from micota.generation.fake_server import FakeServer
from micota.machine import GenerateConfig, MachineProfile, ServerConfig
from micota.specs import Generate, Problems, Prompt, Sampling, Source
from micota.store.records import Completion, Request

BUDGET, LIMIT = 7, 20
vllm_only = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
ENGINES = ["transformers", "fake", pytest.param("vllm", marks=vllm_only), pytest.param("server", marks=vllm_only)]
pytestmark = [pytest.mark.timeout(600)]
if importlib.util.find_spec("vllm"):
    pytestmark.append(pytest.mark.filterwarnings("default"))  # vLLM's imports warn of much


def thinker(folder: Path, template: str) -> Path:
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    words = family_tokenizer("think-opened", template=template)
    torch.manual_seed(1)
    made = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(words), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=256, eos_token_id=words.eos_token_id, pad_token_id=0,
            initializer_range=0.5,
        )
    )  # fmt: skip
    made.generation_config = GenerationConfig(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id)
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


ASK = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A model whose template opens the thought, and one that opens none."""
    base = tmp_path_factory.mktemp("thinkers")
    yield {"thinks": thinker(base / "thinks", ASK + "<think>"), "plain": thinker(base / "plain", ASK)}


def spec(**sampling: int) -> Generate:
    source = Source(ref="x", revision="1")
    asked = {"problems": Problems(source=source), "prompt": Prompt(template="{problem}"), "precision": "float32"}
    return Generate(model=source, sampling=Sampling(max_tokens=LIMIT, **sampling), **asked)  # type: ignore[arg-type]


class Served(FakeServer):
    """A server of a model, greedy, for prompts that are tokens; it returns texts alone, as most servers do."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        super().__init__(lambda _: "", model="x")
        self.words = AutoTokenizer.from_pretrained(folder)
        self.weights = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def reply(self, body: dict[str, Any], chat: bool) -> dict[str, Any]:
        prompt = self.words.apply_chat_template(body["messages"], tokenize=False) if chat else body["prompt"]
        ids = self.words(prompt, add_special_tokens=False)["input_ids"] if chat else prompt
        new: list[int] = []
        while len(new) < body["max_tokens"] and self.words.eos_token_id not in new:
            with torch.no_grad():
                new.append(int(self.weights(torch.tensor([ids + new])).logits[0, -1].argmax()))
        finish = "stop" if self.words.eos_token_id in new else "length"
        text = self.words.decode(new, skip_special_tokens=True)
        choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        counts = {"prompt_tokens": len(ids), "completion_tokens": len(new)}
        return {"choices": [{"index": 0, "finish_reason": finish, **choice}], "usage": counts}


@pytest.fixture
def place(folders: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A function from a folder and an engine's name to the profile's section, with a server where it is one."""
    servers: list[Any] = []

    def start(folder: Path, engine: str) -> GenerateConfig:
        if engine == "fake":
            servers.append(Served(folder))
            servers[-1].__enter__()
            return GenerateConfig(engine="openai", url=servers[-1].url, served="x", batch=4, fake=True)
        if engine == "server":
            servers.append(Vllm(folder, tmp_path))
            return GenerateConfig(engine="openai", url=servers[-1].url, served="x", batch=4)
        return GenerateConfig(engine=engine, batch=4)  # type: ignore[arg-type]

    yield start
    for one in servers:
        one.__exit__(None, None, None)


class Vllm:
    """vLLM's own server with a model, on loopback."""

    def __init__(self, folder: Path, at: Path) -> None:
        from micota.generation.vllm import ENVIRONMENT

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        named = ["--model", str(folder), "--served-model-name", "x", "--host", "127.0.0.1", "--port", str(port)]
        settings = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "256", "--max-num-seqs", "4"]
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *named, *settings]
        environment = {**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": "1"}
        with open(at / "log.txt", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.url = f"http://127.0.0.1:{port}/v1"
        try:
            while not self.healthy():
                assert self.process.poll() is None, (at / "log.txt").read_text()[-3000:]
                time.sleep(0.5)
        except BaseException:  # a timeout leaves no server behind
            self.process.kill()
            raise

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


def answers(folder: Path, place: GenerateConfig, **sampling: int) -> dict[str, Completion]:
    opened = open_engine(spec(**sampling), folder, place, 1)
    try:
        wanted = [Request(str(i), 0, f"question {i} {'x' * i}") for i in range(4)]
        return {one.key: one for group in opened.answer(wanted) for one in group}
    finally:
        opened.close()


def plain(folder: Path, prompt: str, budget: int, read: bool) -> tuple[str, int]:
    """Greedy tokens one by one; behind the budget the end of the thought, if it is open, then greedy tokens again.

    With `read` the thought is what the tokenizer reads in its text: bytes that are no character become one.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked = words.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False)
    ids, new = words(asked, add_special_tokens=False)["input_ids"], []
    while len(new) < LIMIT:
        if len(new) == budget and asked.endswith("<think>") and "</think>" not in words.decode(new):
            new = words(words.decode(new), add_special_tokens=False)["input_ids"] if read else new
            budget = 0
            new += words("\n</think>\n\n", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            token = int(model(torch.tensor([ids + new])).logits[0, -1].argmax())
        new.append(token)
        if words.decode([token]) in ("<|im_end|>", "<|endoftext|>"):
            return words.decode(new[:-1], skip_special_tokens=True), len(new)
    return words.decode(new, skip_special_tokens=True), len(new)


def whole(text: str) -> str:
    """Without bytes that are no character: vLLM does not show those at the end of a text."""
    return text.replace("\ufffd", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_thought_is_cut_closed_and_answered(folders: dict[str, Path], engine: str, place: Any) -> None:
    at = place(folders["thinks"], engine)
    found = answers(folders["thinks"], at, thinking_budget=BUDGET)
    for one in found.values():
        text, tokens = plain(folders["thinks"], one.prompt, BUDGET, engine == "fake")
        assert (whole(one.text), one.completion_tokens) == (whole(text), tokens)
        assert one.think_prefix == "<think>"
    assert any(one.text.count("\n</think>\n\n") == 1 for one in found.values())
    assert any(one.answered for one in found.values())
    uncut = answers(folders["thinks"], at)
    assert any("</think>" not in one.text for one in uncut.values()), "some never end their thought by themselves"


@pytest.mark.parametrize("engine", ENGINES)
def test_what_does_not_think_is_not_cut(folders: dict[str, Path], engine: str, place: Any) -> None:
    at = place(folders["plain"], engine)
    cut, uncut = answers(folders["plain"], at, thinking_budget=BUDGET), answers(folders["plain"], at)
    for key, one in uncut.items():
        assert (whole(cut[key].text), cut[key].completion_tokens) == (whole(one.text), one.completion_tokens)


def test_sampled_texts_depend_on_the_request_alone(folders: dict[str, Path]) -> None:
    first = Sampling(max_tokens=LIMIT, temperature=1.0, thinking_budget=BUDGET)
    made = spec().changed(sampling=first)
    wanted = [Request(str(i), 0, f"question {i}") for i in range(3)]

    def texts(asked: list[Request]) -> dict[str, str]:
        engine = open_engine(made, folders["thinks"], GenerateConfig(batch=4), 1)
        return {one.key: one.text for group in engine.answer(asked) for one in group}

    alone = texts(wanted[:1])
    assert texts(wanted)["0"] == alone["0"]


def test_it_is_identity_only_where_it_is_said_and_needs_a_tokenizer(tmp_path: Path) -> None:
    assert "thinking_budget" not in spec().sampling.stated
    assert spec(thinking_budget=3).digest != spec().digest
    with pytest.raises(ValueError, match="leaves no tokens for the answer"):
        Sampling(max_tokens=5, thinking_budget=5)
    machine = MachineProfile(servers={"endpoint:x": ServerConfig(url="http://127.0.0.1:1/v1")})
    ws = mc.Workspace(tmp_path / "store", machine=machine)
    (tmp_path / "p.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    answers = mc.generate("endpoint:x", mc.problems(tmp_path / "p.jsonl"), sampling={"thinking_budget": 3})
    with pytest.raises(MicotaError, match="without the model's tokenizer"):
        ws.make(answers)
