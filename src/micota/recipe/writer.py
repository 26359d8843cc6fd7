"""From a recipe to YAML that reads back with equal digests: shared specs stand in `let`, the rest where it is used."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from micota.benchmarks import BENCHMARKS
from micota.recipe.contents import Contents, Evaluation
from micota.recipe.sections import SETTINGS
from micota.recipe.variables import escaped
from micota.recipe.words import benchmark_problems
from micota.specs import (
    Adapter,
    FrozenModel,
    Generate,
    Inquiry,
    Problems,
    RejectionSampling,
    Rewrite,
    Select,
    SelectBy,
    Source,
    Spec,
    Verify,
    walk,
)
from micota.yaml_tree import scalar


def yaml_text(recipe: Contents, beside: Path) -> str:
    """The recipe as YAML for a file in the folder `beside`; a recipe with variables comes out expanded."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes what YAML 1.2 would not read as text; the library writes YAML 1.1."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if _is_plain(value) else "'")

    Dumper.add_representer(str, text)
    document = escaped(_Writer(recipe, beside).document())
    dumped: str = yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)
    return dumped


class _Writer:
    def __init__(self, recipe: Contents, beside: Path) -> None:
        self._recipe, self._beside = recipe, beside
        self._specs = {spec.digest: spec for spec in walk(*recipe.targets, *recipe.names.values())}
        self._words = {spec.digest: word for word, spec in reversed(recipe.names.items())}
        for one in recipe.evaluations:
            if _benchmark(one.problems) is None:
                self._words.setdefault(one.spec.problems.digest, one.data)
        uses = Counter(child.digest for spec in self._specs.values() for child in spec.children)
        for spec in self._specs.values():
            if isinstance(spec, Problems) and uses[spec.digest] > 1 and _benchmark(spec) is None:
                self._words.setdefault(spec.digest, f"problems-{spec.digest[:6]}")

    def document(self) -> dict[str, Any]:
        """The sections of the file, in the order in which they are read."""
        recipe = self._recipe
        arms = {word: self._body(spec) for word, spec in recipe.arms.items()}
        for word in arms.keys() & {*filter(recipe.titles.get, recipe.titles), *recipe.roles}:
            about = {"name": recipe.titles.get(word), "role": recipe.roles.get(word)}
            body = arms[word] if isinstance(arms[word], dict) else {"model": arms[word]}
            arms[word] = {**{key: value for key, value in about.items() if value}, **body}
        let = {
            word: self._body(self._specs[digest]) for digest, word in self._words.items() if word not in recipe.names
        }
        let |= {word: self._body(spec) for word, spec in recipe.names.items() if word not in arms}
        document: dict[str, Any] = {"name": recipe.name}
        if let:
            document["let"] = let
        document["arms"] = arms
        if any(one.model == recipe.baseline for one in recipe.evaluations):
            document["baseline"] = recipe.baseline
        if recipe.evaluations:
            document["evaluate"] = self._evaluate(recipe.evaluations)
        if recipe.measures:
            document["measure"] = {"bpc": [self._measure(label) for label in recipe.measures]}
        return document

    def _body(self, spec: Spec) -> Any:
        """What a name stands for."""
        return self._source(spec) if isinstance(spec, Source | Adapter) else self._form(spec)

    def _expression(self, spec: Spec) -> Any:
        if (word := self._words.get(spec.digest)) is not None:
            return word
        if isinstance(spec, Source | Adapter):
            return self._source(spec)
        if isinstance(spec, Problems) and (name := _benchmark(spec)):
            return name
        return self._form(spec)

    def _source(self, spec: Source | Adapter) -> str:
        """The word of a source: a path stands relative to the file's folder where it lies below it."""
        if spec.path is None or spec.ref.startswith("lab:"):
            return spec.ref
        path = Path(spec.path)
        return f"./{path.relative_to(self._beside)}" if path.is_relative_to(self._beside) else str(path)

    def _form(self, spec: Spec) -> Any:
        if isinstance(spec, Select | RejectionSampling):
            return {"distill": self._distillation(spec)}
        if isinstance(spec, Rewrite):
            answers, data = spec.rewritten.completions, self._expression(spec.data)
            prompt = {**self._fields(answers.prompt), "template": spec.inquiry.template}
            fields = {"data": data, "model": self._expression(answers.model), "by": self._by(spec.rewritten.verdicts)}
            return {"rewrite": {**self._settings(answers), **fields, "prompt": prompt}}
        if isinstance(spec, SelectBy):
            measure = {name: value for name, value in self._fields(spec.measure).items() if name != "rsr"}
            return {"select": {**measure, "by": spec.by, "keep": spec.keep}}
        if isinstance(spec, Verify):
            return {"verify": {"completions": self._form(spec.completions), "by": self._by(spec)}}
        if isinstance(spec, Problems) and (name := _benchmark(spec)):
            benchmark = {"source": self._source(spec.source), "benchmark": name}
            return {"problems": {**self._fields(spec), **benchmark}}
        return {spec.kind: self._fields(spec)}

    def _distillation(self, spec: Select | RejectionSampling) -> dict[str, Any]:
        answers = spec.completions
        graded = spec.verdicts if isinstance(spec, Select) else spec
        fields = {"from": self._expression(answers.model), "data": self._expression(answers.problems)}
        fields |= self._settings(answers) | {"by": self._by(graded)}
        rest = self._fields(spec)
        names = ("keep", "max_tokens", "duplicates", "at_most")
        fields |= {name: rest[name] for name in names if name in rest}
        return fields | ({"until": "verified"} if isinstance(spec, RejectionSampling) else {})

    def _by(self, spec: Verify | RejectionSampling) -> Any:
        """The grader: a word, or the model that judges."""
        replies = spec.judged if isinstance(spec, Verify) else None
        if replies is None:
            return spec.by
        assert isinstance(replies.problems, Inquiry)
        prompt = {**self._fields(replies.prompt), "template": replies.problems.template}
        return {"judge": {"model": self._expression(replies.model), **self._settings(replies), "prompt": prompt}}

    def _settings(self, answers: Generate) -> dict[str, Any]:
        fields = self._fields(answers)
        return {name: fields[name] for name in SETTINGS if name in fields}

    def _fields(self, value: FrozenModel) -> dict[str, Any]:
        return {name.removesuffix("_"): self._plain(item) for name, item in value.stated.items()}

    def _plain(self, value: Any) -> Any:
        if isinstance(value, Spec):
            return self._expression(value)
        if isinstance(value, FrozenModel):
            return self._fields(value)
        if isinstance(value, dict):
            return dict(value)
        return [self._plain(item) for item in value] if isinstance(value, tuple) else value

    def _evaluate(self, evaluations: list[Evaluation]) -> list[dict[str, Any]]:
        """A section for every set of settings; within it the models that stand with every problem set."""
        cells: dict[tuple[str, str], list[Evaluation]] = {}
        for one in evaluations:
            cells.setdefault((one.model, one.data), []).append(one)
        sections: dict[str, tuple[dict[str, Any], list[str]]] = {}
        for (model, _), ones in cells.items():
            answers = ones[0].spec.completions
            prompt = {**self._fields(answers.prompt), "template": answers.prompt.template}
            settings = {"prompt": prompt, "sampling": self._sampling(answers)}
            settings |= {k: v for k, v in self._settings(answers).items() if k not in settings}
            section = {
                "data": [self._expression(answers.problems)],
                **settings,
                "by": [self._by(one.spec) for one in ones],
            }
            sections.setdefault(repr(section), (section, []))[1].append(model)
        return [{"models": models, **section} for section, models in sections.values()]

    def _sampling(self, answers: Generate) -> dict[str, Any]:
        """All of it, written out: a benchmark would fill in its own limit and stop strings."""
        sampling = answers.sampling
        return {**self._fields(sampling), "max_tokens": sampling.max_tokens, "stop": list(sampling.stop)}

    def _measure(self, label: str) -> dict[str, Any]:
        data, _, model = label.removeprefix("bpc:").rpartition("@")
        measure = self._recipe.measures[label]
        fields = {name: value for name, value in self._fields(measure).items() if name not in ("model", "data")}
        return {"models": [model], "data": [data], "precision": measure.precision, **fields}


def _benchmark(spec: Problems) -> str | None:
    """The name of the benchmark that a problem set is, whole and from its usual source."""
    name = spec.benchmark
    if name not in BENCHMARKS:
        return None
    return name if spec.changed(source=Source(ref=spec.source.ref)) == benchmark_problems(name) else None


def _is_plain(text: str) -> bool:
    """Whether an unquoted text reads as text."""
    try:
        return bool(scalar(text) == text)
    except ValueError:
        return False
