"""Measures of learnability against plain transformers, one text at a time, and selection by them."""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_model
from families import tokenizer as family_tokenizer
from torch.utils._python_dispatch import TorchDispatchMode

import micota as mc
from micota.errors import MicotaError, StageFailed
from micota.machine import MachineProfile
from micota.specs import Bpc
from micota.store.checked import StoreWarning
from micota.store.records import read_rows
from micota.training.head_product import CLIP, LOGITS, check_product, head_scores

ROWS = [
    ("What is 17 * 3?", "17 * 3 = 51.\n \nSo\nit is 51.\n"),
    ("Name a number.", "7"),
    ("Is it so?", "It is.\n \t\nOr not?\nYes: é.\nNo.\n \n"),
]
EXACT = 1e-6


def model(folder: Path, family: str, kind: str) -> Path:
    """A tiny model of a real architecture with a tokenizer of bytes, in fp32."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    words = family_tokenizer(family)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {
        "gemma2": {"head_dim": 16, "final_logit_softcapping": 3.0},
        "cohere": {"logit_scale": 0.5},
        "granite": {"logits_scaling": 4.0},
    }.get(kind, {})
    ends = {"pad_token_id": 0, "eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id}
    config = AutoConfig.for_model(
        kind, vocab_size=len(words) + 8, num_key_value_heads=2, initializer_range=0.3, **shape, **more, **ends
    )
    torch.manual_seed(3)
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    made.generation_config = GenerationConfig(eos_token_id=words.eos_token_id)
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def data(folder: Path) -> Any:
    lines = [json.dumps({"prompt": prompt, "response": response}) for prompt, response in ROWS]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return mc.rows(str(folder / "rows.jsonl"), prompt="prompt", response="response")


def pieces(text: str) -> list[str]:
    """The steps of a text, each a line with the blank ones behind it."""
    return re.split(r"(?<=\n)(?=\S)", text)


class Plain:
    """The measures as they are defined, from all logits of one text."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.words = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def ids(self, text: str) -> list[int]:
        return list(self.words(text, add_special_tokens=False)["input_ids"])

    def after(self, before: list[int], tokens: list[int]) -> tuple[list[float], list[int]]:
        """Log-probability and rank of each token behind others."""
        with torch.no_grad():
            logits = self.model(torch.tensor([before + tokens])).logits[0, len(before) - 1 : -1].double()
        logs = torch.log_softmax(logits, -1)
        order = logits.argsort(-1, descending=True).tolist()
        return [float(logs[i, t]) for i, t in enumerate(tokens)], [order[i].index(t) + 1 for i, t in enumerate(tokens)]

    def measures(
        self, prompt: str, response: str, local: int, context: int, chosen: dict[int, list[int]]
    ) -> dict[str, float]:
        """`chosen` are the numbers of the steps that are read, for each number of steps; all where it has none."""
        asked = [{"role": "user", "content": prompt}]
        text = self.words.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        before, tokens = self.ids(text), self.ids(response)
        logs, ranks = self.after(before, tokens)
        steps = [before, *map(self.ids, pieces(response))]
        assert list(chain(*steps[1:])) == tokens
        bos = before[:1] if before[0] == self.words.bos_token_id else []
        means = []
        for n in chosen.get(len(steps) - 1, range(1, len(steps))):
            window = list(chain(*steps[max(0, n - local) : n]))
            one, _ = self.after(window if n <= local else bos + window, steps[n])
            means.append(sum(one) / len(one))
        clipped = [min(rank, 100) for rank in ranks]
        return {
            "nats": -sum(logs),
            "ranks": sum(clipped),
            "rsr": sum(clipped) / -sum(logs),
            "steps": len(means),
            "local": sum(means) / len(means),
            "beyond": sum(len(before) + i >= context for i in range(len(tokens))),
        }


@pytest.mark.parametrize(
    ("family", "kind"),
    [("chatml-default", "qwen2"), ("chatml-default", "gemma2"), ("headers", "cohere"), ("headers", "granite")],
)
def test_each_row_has_what_the_definitions_say(tmp_path: Path, family: str, kind: str) -> None:
    folder, rows = model(tmp_path / "model", family, kind), data(tmp_path)
    ws = mc.Workspace(tmp_path / "store")
    for local, most in ((1, None), (2, None), (2, 2)):
        spec = mc.measure(str(folder), rows, precision="float32", rsr=True, local=local, local_steps=most, context=80)
        chosen = {3: [1, 3], 4: [2, 4]} if most else {}
        artifact = ws.make(spec)
        found, plain = read_rows(artifact.path / "rows.jsonl"), Plain(folder)
        by_size = {response: plain.measures(prompt, response, local, 80, chosen) for prompt, response in ROWS}
        expected = {len(response): one for response, one in by_size.items()}
        assert len(found) == len(ROWS)
        for row in found:
            for name, value in expected[row["characters"]].items():
                assert row[name] == pytest.approx(value, rel=EXACT), name
        facts, n = artifact.facts, len(ROWS)
        ranks, nats = (sum(row[name] / row["tokens"] for row in found) / n for name in ("ranks", "nats"))
        assert facts["rank_surprisal_ratio"] == pytest.approx(ranks / nats, rel=EXACT)
        assert facts["local_log_probability"] == pytest.approx(sum(row["local"] for row in found) / n, rel=EXACT)
        assert facts["beyond_context"] == sum(row["beyond"] for row in found) / facts["tokens"]
    assert {row["ranks"] > row["tokens"] for row in found} == {True}


@pytest.mark.parametrize(("precision", "value"), [("float16", 6e4), ("float32", 3e38)])
def test_a_model_that_computes_no_numbers_measures_nothing(tmp_path: Path, precision: str, value: float) -> None:
    """Weights that are numbers overflow: NaN has no order, a ratio to infinite surprisal would be the lowest."""
    from safetensors.torch import load_file, save_file

    path = tiny_model(tmp_path / "model", 0) / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][:] = value
    save_file(weights, path, {"format": "pt"})
    spec = mc.select(data(tmp_path), str(path.parent), keep=0.5, precision=precision)
    with pytest.raises(StageFailed, match="probabilities are no numbers"):
        mc.Workspace(tmp_path / "store").make(spec)


def test_without_them_a_row_is_as_it_was(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", 0)
    artifact = mc.Workspace(tmp_path / "store").make(mc.measure(str(folder), data(tmp_path), precision="float32"))
    rows = read_rows(artifact.path / "rows.jsonl")
    assert {tuple(row) for row in rows} == {("key", "sample", "nats", "tokens", "characters", "bytes")}
    assert artifact.facts.keys() & {"rank_surprisal_ratio", "local_log_probability", "beyond_context"} == set()


def test_rows_longer_than_the_model_reads_are_told_and_counted(tmp_path: Path) -> None:
    folder, lengths = tiny_model(tmp_path / "model", 0), []
    words = Plain(folder).words
    for prompt, response in ROWS:
        asked = [{"role": "user", "content": prompt}]
        text = words.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) + response
        lengths.append(len(words(text, add_special_tokens=False)["input_ids"]))
    limit = sorted(lengths)[1]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": limit}))
    spec = mc.measure(str(folder), data(tmp_path), precision="float32")
    with pytest.warns(StoreWarning, match=f"1 of 3 rows are longer than the {limit} tokens"):
        assert mc.Workspace(tmp_path / "store").make(spec).facts["beyond_positions"] == 1


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ranks_are_places_in_the_order_of_logits(bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 1000, bias=bias).to(dtype)
    hidden, labels = torch.randn(3, 20, 16).to(dtype), torch.randint(0, 1000, (3, 20))
    labels[0, :7] = labels[2] = -100
    logits = (hidden.float() @ head.weight.float().T + (head.bias.float() if bias else 0)).detach()
    order = logits.argsort(-1, descending=True)
    places = [
        [min(CLIP, order[row, i].tolist().index(label) + 1) for i, label in enumerate(line) if label != -100]
        for row, line in enumerate(labels.tolist())
    ]
    scores = head_scores(head, (0.5, 3.0), hidden, labels, True)
    assert [ranks for _, ranks in scores] == [sum(row) for row in places]
    logs = (3 * (logits.double() / 6).tanh()).log_softmax(-1)
    for (nats, _), row, line in zip(scores, logs, labels.tolist(), strict=True):
        assert nats == pytest.approx(-sum(float(row[i, t]) for i, t in enumerate(line) if t != -100), rel=EXACT)
    assert max(map(max, filter(None, places))) == CLIP


@pytest.mark.parametrize("kind", ["recurrent_gemma", "xlstm"])
def test_families_whose_logits_are_another_product_are_refused(kind: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    shapes = {
        "recurrent_gemma": {"logits_soft_cap": 2.0, "num_attention_heads": 4, "num_key_value_heads": 2,
                            "head_dim": 8, "lru_width": 32, "intermediate_size": 48},
        "xlstm": {"output_logit_soft_cap": 2.0, "num_blocks": 2, "num_heads": 4},
    }  # fmt: skip
    shape = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0, **shapes[kind]}
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape), dtype=torch.float32).eval()
    for part in made.parameters():
        torch.nn.init.normal_(part, std=0.15) if part.dim() > 1 else None
    with pytest.raises(MicotaError, match=f"family {kind} cannot be measured"):
        check_product(made)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.elements = max(self.elements, made.numel())
        return made


def test_memory_for_ranks_does_not_grow_with_the_length() -> None:
    head = torch.nn.Linear(2, 40_000)
    largest = []
    for length in (1000, 3000):
        with Largest() as seen:
            head_scores(head, (1.0, None), torch.randn(1, length, 2), torch.randint(0, 40_000, (1, length)), True)
        largest.append(seen.elements)
    assert largest[0] == largest[1] <= LOGITS < 1000 * 40_000


RECIPE = """
name: chosen
let:
  mine: {rows: {source: ./rows.jsonl, prompt: prompt, response: response}}
  near: {select: {data: mine, model: ./model, by: %s, keep: 0.7, precision: float32}}
arms:
  taught: {train: {base: ./model, data: near, precision: float32, max_steps: 1, batch: 2}}
measure:
  bpc: {models: [./model], data: [mine], precision: float32, rsr: true, local: 1, context: 80}
"""


@pytest.mark.parametrize("by", ["rsr", "bpc", "tokens", "local, local: 1", "beyond, context: 80"])
def test_the_responses_with_the_lowest_measure_are_an_arm(tmp_path: Path, by: str) -> None:
    model(tmp_path / "model", "chatml-default", "qwen2")
    data(tmp_path)
    (tmp_path / "chosen.yaml").write_text(RECIPE % by)
    recipe = mc.load(str(tmp_path / "chosen.yaml"))
    ws = mc.Workspace(tmp_path / "store", MachineProfile())
    measured = read_rows(ws.make(recipe.measures["bpc:mine@./model"]).path / "rows.jsonl")
    values = {
        "rsr": lambda row: row["rsr"],
        "bpc": lambda row: row["nats"] / row["characters"],
        "tokens": lambda row: row["tokens"],
        "local": lambda row: -row["local"],
        "beyond": lambda row: row["beyond"] / row["tokens"],
    }
    best = sorted(measured, key=values[by.partition(",")[0]])[:2]
    chosen = ws.make(recipe.named("near"))
    assert {row["key"] for row in read_rows(chosen.path / "rows.jsonl")} == {row["key"] for row in best}
    assert (chosen.facts["answers"], chosen.facts["kept"]) == (3, 2)
    assert ws.make(recipe.named("taught")).facts["examples"] == 2
    again = mc.load(str(recipe.save(tmp_path / "again.yaml") or tmp_path / "again.yaml"))
    assert again.named("near") == recipe.named("near")
    assert [*again.measures.values()] == [*recipe.measures.values()]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"by": "local"}, "local: 3"),
        ({"by": "beyond"}, "context: 4096"),
        ({"keep": 1.5}, "keep"),
        ({"step_end": ";"}, "step_end belongs to `local`"),
        ({"local_steps": 4}, "local_steps belongs to `local`"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(MicotaError, match=words):
        mc.select(data(tmp_path), "some/model", **{"keep": 0.5, **fields})


def test_a_keyword_that_the_template_never_reads_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", "chatml-default", "qwen2")
    spec = mc.measure(str(folder), data(tmp_path), precision="float32", template_kwargs={"enable_thinking": False})
    with pytest.raises(StageFailed, match=r"bpc-\w+\) failed(.|\n)*never reads enable_thinking"):
        mc.Workspace(tmp_path / "store").make(spec)


def test_the_digest_of_bits_per_character_is_the_old_one(tmp_path: Path) -> None:
    spec = mc.measure("some/model", mc.rows("some/data"))
    assert set(spec.own_fields) == {"model", "data"}
    assert isinstance(spec, Bpc)
    assert spec.VERSION == 1


def test_gradient_agreement_is_the_cosine_of_plain_gradients(tmp_path: Path) -> None:
    student = model(tmp_path / "model", "chatml-default", "qwen2")
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"prompt": "Is it so?", "response": "No, it is 17."}) + "\n")
    mine, theirs = data(tmp_path), mc.rows(str(other), prompt="prompt", response="response")
    ws = mc.Workspace(tmp_path / "store")
    measured = {
        name: ws.make(mc.measure(str(student), mine, precision="float32", gradient=one)).facts["gradient_agreement"]
        for name, one in (("itself", mine), ("other", theirs))
    }
    assert measured["itself"] == pytest.approx(1)
    plain = Plain(student)
    sides = []
    for rows in (ROWS, [("Is it so?", "No, it is 17.")]):
        plain.model.zero_grad()
        for prompt, response in rows:
            before = plain.words.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
            )
            start, tokens = plain.ids(before), plain.ids(response)
            logits = plain.model(torch.tensor([start + tokens])).logits[0, len(start) - 1 : -1]
            torch.nn.functional.cross_entropy(logits, torch.tensor(tokens), reduction="sum").backward()
        sides.append(torch.cat([one.grad.flatten() for one in plain.model.parameters() if one.grad is not None]))
    assert measured["other"] == pytest.approx(float(torch.cosine_similarity(*sides, dim=0)), abs=1e-5)
