"""The card of an exported folder: what a Hub reads at its top, and below it where the model or the data come from.

Whatever a recipe or a data set could have written stands in code, on one line and with what cannot be seen escaped; of
what a model said nothing is shown.
"""

from __future__ import annotations

import json
import math
from typing import Any

from micota.export.lineage import (
    MODELS,
    Evaluated,
    ancestors,
    bases,
    evaluations,
    labels,
    origin,
    origins,
    plain_fields,
)
from micota.report.escape import fence, long, short
from micota.specs import DEFAULT_PROMPT, KINDS
from micota.stats import Estimate
from micota.store.artifacts import Manifest, Store

SHOWN = (int, float, str, bool)
WITH_DEFAULTS = ("train", "merge")


def of_model(store: Store, manifest: Manifest, title: str, address: str, served: dict[str, Any]) -> str:
    """The card of a model. `address` is what from_pretrained takes; `served` its generation config."""
    found = evaluations(store, manifest)
    base = bases(store, manifest)
    relation = {"train": "finetune", "merge": "merge"}.get(manifest.kind)
    head = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **({"base_model": base} if base else {}),
        **({"base_model_relation": relation} if base and relation else {}),
        **_datasets(store, manifest),
        "tags": ["micota", *(["chain-of-thought"] if manifest.kind == "train" else [])],
    }
    parts = [
        _front(head),
        f"# {code(title)}",
        f"{_said_of(manifest)} Made with micota {code(str(_made(store, manifest).get('micota', '?')))}; "
        f"artifact {code(manifest.id)}, content {code(manifest.content)}.",
        "## How to ask it",
        _asking(store, manifest, found),
        *_serving(address, served, _system(manifest)),
        "## What it was measured at",
        _results(found),
        "## How it was made",
        *lineage(store, manifest),
        "## Terms",
        "No licence is claimed here: the terms of the models and the data above hold for this model too.",
    ]
    return "\n\n".join(parts) + "\n"


def of_data(store: Store, manifest: Manifest, title: str, rows: int) -> str:
    """The card of training data."""
    head = {
        "task_categories": ["text-generation"],
        "tags": ["micota", "chain-of-thought"],
        "configs": [{"config_name": "default", "data_files": "rows.jsonl"}],
    }
    parts = [
        _front(head),
        f"# {code(title)}",
        f"{rows:,} prompts with a response each, as a student learns them; artifact {code(manifest.id)}.",
        "| column | what it is |\n|---|---|\n| `key` | the hash of the problem's text |\n"
        "| `sample` | the number of the answer to it |\n| `prompt` | the user's turn |\n"
        "| `response` | what is learnt, with its thought |",
        "## How it was made",
        *lineage(store, manifest),
        "## Terms",
        "No licence is claimed here: the terms of the models and the data above hold for this data too.",
    ]
    return "\n\n".join(parts) + "\n"


def lineage(store: Store, manifest: Manifest) -> list[str]:
    """A paragraph for each step, in the order of making; a step names the earlier ones by their numbers."""
    made, names = ancestors(store, manifest), labels(store)
    numbers = {one.id: number for number, one in enumerate(made, 1)}
    return [_step(store, one, numbers, names) for one in made]


def code(text: str) -> str:
    """A text from outside as code in one line, harmless in a paragraph and in a table's cell."""
    shown = short(text).replace("|", "¦").replace("`", "'")
    return f"`{shown or ' '}`"


def _front(head: dict[str, Any]) -> str:
    return "---\n" + "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items()) + "\n---"


def _datasets(store: Store, manifest: Manifest) -> dict[str, list[str]]:
    """The data sets of the Hub that the training data come from."""
    steps = [one for one in ancestors(store, manifest) if one.kind in ("problems", "rows")]
    found = dict.fromkeys(made.words for one in steps for made in origins(store, one) if made.hub)
    return {"datasets": list(found)} if found else {}


def _said_of(manifest: Manifest) -> str:
    said = {
        "train": "A model fine-tuned on chains of thought.",
        "merge": "A merge of fine-tuned models.",
        "dial": "A merge whose settings were searched for a length of its answers.",
        "pretrain": "A small model of micota's lab.",
    }
    return said[manifest.kind]


def _made(store: Store, manifest: Manifest) -> dict[str, Any]:
    return (store.manifest_of(manifest.holder) or manifest).made


def _system(manifest: Manifest) -> str | None:
    found = manifest.fields.get("system")
    return str(found) if found is not None else None


def _asking(store: Store, manifest: Manifest, found: list[Evaluated]) -> str:
    """The prompts of its training data and of its evaluations; what it learnt is what it should be asked."""
    taught = (
        [one for one in ancestors(store, manifest)[:-1] if one.kind == "generate"] if manifest.kind == "train" else []
    )
    lines = []
    if (system := _system(manifest)) is not None:
        lines.append(f"It was trained with this system message, which every request needs:\n\n{_block(system)}")
    for said, several in (("In its training data", taught), ("In its evaluations", [one.asked for one in found])):
        for text, mode in dict.fromkeys(map(_prompt, several)):
            how = "through its chat template" if mode == "chat" else "as bare text, without the chat template"
            lines.append(f"{said} the user's turn was, {how} (`{{problem}}` stands for the problem):\n\n{_block(text)}")
    return "\n\n".join(lines) or "Through its chat template, or as bare text where it has none."


def _prompt(asked: Manifest) -> tuple[str, str]:
    prompt = asked.fields.get("prompt", {})
    return prompt.get("template", DEFAULT_PROMPT), prompt.get("mode", "chat")


def _block(text: str) -> str:
    shown = long(text)
    return f"{fence(shown)}text\n{shown}\n{fence(shown)}"


def _serving(address: str, served: dict[str, Any], system: str | None) -> list[str]:
    """How to serve it and how to load it."""
    turns = [{"role": "system", "content": system}] if system is not None else []
    turns.append({"role": "user", "content": "..."})
    drawn = {name: served[name] for name in ("temperature", "top_p", "top_k", "repetition_penalty") if name in served}
    note = (
        f"`generation_config.json` keeps the base model's way of drawing, {code(json.dumps(drawn))}, and servers "
        "apply it where a request says nothing else: ask with the sampling of the table below to get its figures."
    )
    where = json.dumps(address)
    snippet = f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({where})
model = AutoModelForCausalLM.from_pretrained({where}, dtype="auto", device_map="auto")
asked = tokenizer.apply_chat_template(
    {json.dumps(turns)}, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
answer = model.generate(**asked.to(model.device), max_new_tokens=16384, do_sample=False)
print(tokenizer.decode(answer[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))"""
    shell = f"vllm serve {where}"
    return [f"```console\n{shell}\n```", f"```python\n{snippet}\n```", *([note] if drawn else [])]


def _results(found: list[Evaluated]) -> str:
    """Accuracy under each scorer, never without n and its error."""
    if not found:
        return "Nothing: its store has no evaluation of it."
    scorers = list(dict.fromkeys(by for one in found for by in one.scores))
    head = ["problems", "sampling", "n", "samples of each", *map(code, scorers), "mean tokens", "truncated", "looped"]
    lines = [_line(head), _line(["---"] * len(head))]
    for one in found:
        scores = [_score(one.scores.get(by)) for by in scorers]
        sizes = f"{one.n:,}", str(one.samples), *scores, f"{one.mean_tokens:,.1f}"
        lines.append(
            _line([code(one.problems), _drawn(one.asked), *sizes, _percent(one.truncated), _percent(one.looped)])
        )
    note = (
        "Accuracy in percent ± its standard error over the n problems. `exact_match` is the scorer of the paper (arXiv "
        "2507.01887), `semantic` reads what an answer means. Truncated: cut at the limit; looped: ending in the same "
        "piece again and again; both in percent of the responses."
    )
    return "\n".join(lines) + "\n\n" + note


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _score(found: Estimate | None) -> str:
    if found is None or math.isnan(found.value) or math.isnan(found.error):
        return "–"
    return f"{100 * found.value:.1f} ± {100 * found.error:.1f}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def _drawn(asked: Manifest) -> str:
    sampling = asked.fields.get("sampling", {})
    warm = f"temperature {sampling['temperature']:g}" if sampling.get("temperature") else "greedy"
    more = [f"{name} {sampling[name]}" for name in ("top_p", "top_k", "seed") if name in sampling]
    return ", ".join([warm, *more, f"at most {sampling.get('max_tokens', 16_384):,} tokens"])


def _step(store: Store, one: Manifest, numbers: dict[str, int], names: dict[str, list[str]]) -> str:
    words = {
        digest: f"step {numbers[name]}" if name in numbers else origin(store, one, digest).words
        for digest, name in one.children.items()
    }
    called = ", ".join(map(code, names.get(one.id, [])))
    lines = [f"**{numbers[one.id]}. {one.kind}**{f' {called}' if called else ''} ({code(one.id)})", ""]
    lines += [f"- {name}: {code(_value(value))}" for name, value in _settings(one, words).items()]
    for made in origins(store, one):
        lines.append(f"- {code(made.words)} was made elsewhere; its {'commit' if made.hub else 'content'}: "
                     f"{code(made.revision) if made.revision else 'not recorded'}")  # fmt: skip
    facts = ", ".join(f"{name} {_value(value)}" for name, value in one.facts.items() if _is_plain(value))
    return "\n".join([*lines, *([f"- came out: {code(facts)}"] if facts else []), *_by(store, one)])


def _settings(one: Manifest, words: dict[str, str]) -> dict[str, Any]:
    """The fields that were said, of trainings and merges also those left at their defaults."""
    fields = plain_fields(one, words)
    if one.kind in WITH_DEFAULTS:
        known = KINDS[one.kind].model_fields
        usual = {name: info.default for name, info in known.items() if not info.is_required()}
        fields |= {name: value for name, value in usual.items() if name not in fields and isinstance(value, SHOWN)}
    return fields


def _is_plain(value: Any) -> bool:
    """A figure, or counts by their reasons."""
    counts = isinstance(value, dict) and bool(value) and all(isinstance(one, int | float) for one in value.values())
    return isinstance(value, int | float) or counts


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _by(store: Store, one: Manifest) -> list[str]:
    """By what it was made; of the machine only what it computes with, never its name or addresses."""
    if one.same_as:
        return [f"- its content is that of {code(one.same_as)}: {code(str(one.made.get('linked', '')))}"]
    made, place = one.made, one.made.get("place", {})
    used = (
        [f"{name} {version}" for name, version in made.get("packages", {}).items()]
        if one.kind in (*MODELS, "generate")
        else []
    )
    engine = [f"engine {place.get('engine')}"] if one.kind == "generate" else []
    said = [
        f"micota {made.get('micota', '?')}",
        *engine,
        f"{made.get('seconds', 0):,} s",
        str(made.get("finished", "")),
        *used,
    ]
    return [f"- made by: {code(', '.join(said))}", f"- content: {code(one.content)}"]
