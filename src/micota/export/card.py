"""The card of an exported folder: metadata for the Hub by its own classes, and Markdown from the templates beside.

Every value that a template prints is code on one line, unless it is marked as Markdown of ours; so nothing that a
recipe or a data set says can act as markup. Of what a model said, nothing is printed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from micota.export import lineage
from micota.export.lineage import Evaluated
from micota.report.escape import fence, long, short
from micota.specs import DEFAULT_PROMPT, KINDS
from micota.stats import Estimate
from micota.store.artifacts import Store
from micota.store.manifest import Manifest

if TYPE_CHECKING:
    import jinja2

SUMMARIES = {
    "train": "A model fine-tuned on chains of thought.",
    "opd": "A model distilled on-policy: it learnt a teacher's distribution on its own answers.",
    "merge": "A merge of fine-tuned models.",
    "dial": "A merge whose weight was searched for a wanted response length.",
    "pretrain": "A small model of micota's lab.",
}
RELATIONS = {"train": "finetune", "opd": "finetune", "merge": "merge", "dial": "merge"}
SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")


class Markdown(str):
    """Markdown of our own, which a template prints as it is."""


def of_model(
    store: Store,
    manifest: Manifest,
    title: str,
    address: str,
    generation_config: dict[str, Any],
    context: int | None = None,
) -> str:
    """The card of a model. `address` is what from_pretrained takes, `context` the model's positions, if known."""
    from huggingface_hub import ModelCardData

    evaluated, base = lineage.evaluations(store, manifest), lineage.bases(store, manifest)
    results = [result for one in evaluated if not one.generation.fake for result in _eval_results(one)]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=base or None,
        base_model_relation=RELATIONS.get(manifest.kind) if base else None,
        datasets=lineage.hub_datasets(store, manifest) or None,
        tags=["micota", *(["chain-of-thought"] if manifest.kind in ("train", "opd") else [])],
        model_name=short(title) if results else None,
        eval_results=results or None,
    )
    system, keywords = lineage.prompted(manifest)
    messages = [{"role": "system", "content": system}] if system is not None else []
    return _render(
        "model.md",
        metadata=Markdown(data.to_yaml()),
        title=title,
        summary=Markdown(SUMMARIES[manifest.kind]),
        version=str((store.manifest_of(manifest.holder) or manifest).provenance.get("micota", "?")),
        manifest=manifest,
        system=system,
        prompts=_prompts(store, manifest, evaluated),
        address=Markdown(json.dumps(address)),
        messages=Markdown(json.dumps([*messages, {"role": "user", "content": "..."}])),
        keywords=_keywords(keywords),
        sampling=", ".join(f"{name} {generation_config[name]}" for name in SAMPLING if name in generation_config),
        fake=manifest.fake,
        new_tokens=min(16_384, (context or 32_768) // 2),  # so that a prompt has room too
        evaluations=[_row(one) for one in evaluated],
        scorers=list(dict.fromkeys(scorer for one in evaluated for scorer in one.scores)),
        steps=_steps(store, manifest),
    )


def of_data(store: Store, manifest: Manifest, title: str, rows: int) -> str:
    """The card of training data with so many rows."""
    metadata, number = _data_metadata(), Markdown(f"{rows:,}")
    return _render(
        "data.md",
        metadata=metadata,
        title=title,
        rows=number,
        id=manifest.id,
        fake=manifest.fake,
        steps=_steps(store, manifest),
    )


def of_answers(manifest: Manifest, model: str, problems: str, columns: Mapping[str, str]) -> str:
    """The card of a generation's rows; `columns` says in Markdown what each column holds."""
    return _render(
        "answers.md",
        metadata=_data_metadata("synthetic"),
        model=model,
        problems=problems,
        facts=manifest.facts,
        repetitive=manifest.facts.get("looped", 0),
        fake=manifest.fake,
        n=manifest.fields.get("n", 1),
        mean_tokens=Markdown(f"{manifest.facts['mean_tokens']:.0f}"),
        sampling=Markdown(_sampling(manifest)),
        precision=Markdown(manifest.fields.get("precision", "bfloat16")),
        first_prompt=manifest.facts.get("first_prompt", ""),
        columns=columns,
    )


def _data_metadata(*tags: str) -> Markdown:
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        task_categories=["text-generation"],
        tags=["micota", "chain-of-thought", *tags],
        configs=[{"config_name": "default", "data_files": "rows.jsonl"}],
    )
    return Markdown(data.to_yaml())


def code(text: str) -> str:
    """A text from outside as code on one line, harmless in a paragraph and in a table's cell."""
    shown = short(text).replace("|", "¦").replace("`", "'")
    return f"`{shown or ' '}`"


def _block(text: str) -> Markdown:
    shown = long(text)
    return Markdown(f"{fence(shown)}text\n{shown}\n{fence(shown)}")


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    def printed(value: Any) -> Any:
        return value if isinstance(value, Markdown | int) else code(str(value))

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("micota.export"),
        undefined=jinja2.StrictUndefined,
        finalize=printed,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.globals |= {"text": Markdown, "block": _block, "percent": _percent}
    return templates


def _render(template: str, **values: Any) -> str:
    from huggingface_hub import RepoCard

    return str(RepoCard(_templates().get_template(template).render(**values)))


def _percent(value: float | Estimate | None) -> Markdown:
    """A share, or an accuracy with its standard error; an accuracy without one is not shown."""
    if isinstance(value, Estimate):
        shown = f"{100 * value.value:.1f} ± {100 * value.error:.1f}"
    else:
        shown = "nan" if value is None else f"{100 * value:.1f}"
    return Markdown("–" if "nan" in shown else shown)


def _eval_results(one: Evaluated) -> list[Any]:
    """The entries of `model-index`: an accuracy for each scorer, in percent."""
    from huggingface_hub import EvalResult

    name, sampling = short(one.problems), _sampling(one.generation)
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=name.partition(", ")[0],
            dataset_name=name,
            metric_type="accuracy",
            metric_name=f"accuracy by {scorer}, {sampling}",
            metric_value=round(100 * score.value, 2),
            metric_args={"n": one.n, "samples": one.samples, "standard_error": round(100 * score.error, 2)},
        )
        for scorer, score in one.scores.items()
        if not math.isnan(score.value) and not math.isnan(score.error)
    ]


def _row(one: Evaluated) -> dict[str, Any]:
    """A row of the table of evaluations."""
    return {
        "problems": f"{one.problems} (fake)" if one.generation.fake else one.problems,
        "sampling": Markdown(_sampling(one.generation)),
        "n": Markdown(f"{one.n:,}"),
        "samples": one.samples,
        "scores": one.scores,
        "mean_tokens": Markdown(f"{one.mean_tokens:,.1f}"),
        "truncated": one.truncated,
        "repetitive": one.repetitive,
    }


def _sampling(generation: Manifest) -> str:
    sampling = generation.fields.get("sampling", {})
    first = f"temperature {sampling['temperature']:g}" if sampling.get("temperature") else "greedy"
    more = [f"{name} {sampling[name]}" for name in ("top_p", "top_k", "repetition_penalty", "seed") if name in sampling]
    return ", ".join([first, *more, f"at most {sampling.get('max_tokens', 16_384):,} tokens"])


def _prompts(store: Store, manifest: Manifest, evaluated: list[Evaluated]) -> list[tuple[Markdown, str, Markdown]]:
    """The user messages of its training data and of its evaluations, with how they were rendered, each once."""
    found = []
    if manifest.kind in ("train", "opd"):
        steps = lineage.ancestors(store, manifest)[:-1]
        found += [("training data", *_prompt(one)) for one in steps if one.kind == "generate"]
    found += [("evaluations", *_prompt(one.generation)) for one in evaluated]
    return [(Markdown(place), template, Markdown(how)) for place, template, how in dict.fromkeys(found)]


def _prompt(generation: Manifest) -> tuple[str, str]:
    """The template of the user message, and how that was rendered."""
    prompt = generation.fields.get("prompt", {})
    keywords = _keywords(prompt.get("template_kwargs", {}))
    chat = f"through its chat template{f' with {code(keywords)}' if keywords else ''}"
    raw = prompt.get("mode") == "raw"
    return prompt.get("template", DEFAULT_PROMPT), "as bare text, without the chat template" if raw else chat


def _keywords(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _steps(store: Store, manifest: Manifest) -> list[dict[str, Any]]:
    """Each step in the order of making; a step names its inputs by their numbers."""
    steps, names = lineage.ancestors(store, manifest), lineage.labels(store)
    numbers = {one.id: number for number, one in enumerate(steps, 1)}
    return [_step(store, one, numbers, names.get(one.id, [])) for one in steps]


def _step(store: Store, one: Manifest, numbers: dict[str, int], names: list[str]) -> dict[str, Any]:
    inputs = {
        digest: f"step {numbers[name]}" if name in numbers else lineage.origin(store, one, digest).words
        for digest, name in one.children.items()
    }
    results = [f"{name} {_value(value)}" for name, value in one.facts.items() if _is_figure(value)]
    return {
        "number": numbers[one.id],
        "kind": Markdown(one.kind),
        "names": names,
        "id": one.id,
        "settings": [(Markdown(name), _value(value)) for name, value in _settings(one, inputs).items()],
        "sources": list(lineage.origins(store, one)),
        "results": ", ".join(results),
        "fake": one.fake,
        "same_as": one.same_as,
        "reason": str(one.provenance.get("linked", "")),
        "made_by": _made_by(one),
        "content": one.content,
    }


def _settings(one: Manifest, inputs: dict[str, str]) -> dict[str, Any]:
    """The fields that the recipe set; of trainings and merges also those left at their defaults."""
    fields = lineage.plain_fields(one, inputs)
    if one.kind in ("train", "opd", "merge"):
        optional = {name: info for name, info in KINDS[one.kind].model_fields.items() if not info.is_required()}
        defaults = {name: info.default for name, info in optional.items()}
        fields |= {k: v for k, v in defaults.items() if k not in fields and isinstance(v, int | float | str)}
    if fields.keys() & {"max_steps", "target_tokens"}:
        fields.pop("epochs", None)  # which these replace
    return fields


def _is_figure(value: Any) -> bool:
    """A number, or counts by their reasons."""
    counts = isinstance(value, dict) and bool(value) and all(isinstance(one, int | float) for one in value.values())
    return isinstance(value, int | float) or counts


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _made_by(one: Manifest) -> str:
    """Software, engine and time; never the machine's name or addresses."""
    packages = one.provenance.get("packages", {}) if one.kind in (*lineage.MODELS, "generate") else {}
    engine = [f"engine {one.provenance.get('place', {}).get('engine')}"] if one.kind == "generate" else []
    time = [f"{one.provenance.get('seconds', 0):,} s", str(one.provenance.get("finished", ""))]
    versions = [f"{name} {version}" for name, version in packages.items()]
    return ", ".join([f"micota {one.provenance.get('micota', '?')}", *engine, *time, *versions])
