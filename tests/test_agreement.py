"""micota against plain transformers, peft and torch (a part of `make families`); an export under three engines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import micota as mc

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "agreement"))
from agreement import Agreement, workspace  # noqa: E402
from serving import by_transformers  # noqa: E402
from tiny_families import FAMILIES, build  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(is_gradient_checkpointing|fan_in_fan_out)"),  # both are peft's
    pytest.mark.timeout(900),
]
ROWS = [
    {"prompt": f"{i}+{i + 1}?", "response": f"<think>\n{i}, {i + 1}\n</think>\n\n{2 * i + 1}" + " is it." * (i % 2)}
    for i in (2, 3, 4)
]
LONGEST = 24
ELSEWHERE = {"vllm": "MICOTA_VLLM", "lm-eval": "MICOTA_LM_EVAL"}
"""Environment variables with the Python of an environment that has the engine."""


def test_the_table_has_at_least_25_families() -> None:
    assert len(FAMILIES) >= 25


@pytest.mark.parametrize("family", ["gpt2", "falcon"])
def test_a_family_agrees_with_transformers_peft_and_torch(tmp_path: Path, family: str) -> None:
    """GPT-2 has words of its own for everything; Falcon's examples see each other in one row."""
    found = Agreement(build(tmp_path, family), workspace(tmp_path / "work")).look()
    words = {aspect: finding.word for aspect, finding in found.items()}
    expected = dict.fromkeys(words, "agrees") | ({"packing": "refused"} if family == "falcon" else {})
    assert words == expected, {aspect: finding.text for aspect, finding in found.items()}


@pytest.fixture(scope="module")
def served(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A tiny Qwen3 with the real tokenizer and template, trained until it knows its rows, merged with its base and
    exported; and what micota says that it answers."""
    folder = tmp_path_factory.mktemp("qwen3")
    base, ws = qwen3(shared, folder / "base"), workspace(folder / "work")
    for name, rows in (("rows", ROWS), ("problems", [{"problem": row["prompt"], "answer": "0"} for row in ROWS])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"max_steps": 60, "lr": 0.005, "schedule": "constant", "batch": 3, "precision": "float32", "cutoff": 128}
    tuned = mc.train(base, mc.rows(folder / "rows.jsonl"), **settings)
    mid = mc.merge(base, [tuned], method="dare_ties", weight=1.0, density=0.98)
    measured = ws.make(mc.measure(mid, mc.rows(folder / "rows.jsonl"), precision="float32"))
    assert measured.facts["bits_per_character"] < 0.2
    asked = {"prompt": "{problem}", "precision": "float32", "sampling": {"max_tokens": LONGEST}}
    answers = list(ws.make(mc.generate(mid, mc.problems(folder / "problems.jsonl"), **asked)).rows())
    return ws.make(mid).export(folder / "export"), answers


def qwen3(shared: Path, folder: Path) -> Path:
    """Two random layers; as many rows as the published models have, and heads that vLLM has a kernel for on a CPU."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, Qwen3Config

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
    config = Qwen3Config(vocab_size=151_936, **sizes, **heads, max_position_embeddings=1024, eos_token_id=151_645)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=[151_645, 151_643], pad_token_id=151_643)
    model.save_pretrained(folder)
    for file in (shared / "tokenizers" / "qwen3").glob("*.json"):
        shutil.copyfile(file, folder / file.name)
    return folder


def compared(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Equal texts, and equal stops where the engine tells them; every answer is the one that was trained, and ends."""
    assert [row["response"] for row in ours] == [answer["text"] for answer in theirs]
    assert {row["prompt"]: row["response"] for row in ours} == {row["prompt"]: row["response"] for row in ROWS}
    stops = [row["finish_reason"] == "stop" for row in ours]
    assert stops == [answer.get("stopped", stop) for answer, stop in zip(theirs, stops, strict=True)]
    assert all(stops), "an answer that is cut shows no stop"


@pytest.mark.slow  # the whole vocabulary is trained
def test_an_export_of_qwen3_answers_in_transformers_as_in_micota(served: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, answers = served
    compared(answers, by_transformers(str(folder), [row["prompt"] for row in answers], LONGEST))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ELSEWHERE)
def test_an_export_of_qwen3_answers_elsewhere_as_in_micota(
    served: tuple[Path, list[dict[str, Any]]], engine: str, tmp_path: Path
) -> None:
    if not (python := os.environ.get(ELSEWHERE[engine])):
        pytest.skip(f"no environment with {engine}: `make families` sets one up")
    folder, answers = served
    asked, out = tmp_path / "asked.json", tmp_path / "out.json"
    asked.write_text(json.dumps({"prompts": [row["prompt"] for row in answers], "max_tokens": LONGEST}))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [python, str(HERE / "agreement" / "serving.py"), engine, str(folder), str(asked), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    compared(answers, json.loads(out.read_text()))
