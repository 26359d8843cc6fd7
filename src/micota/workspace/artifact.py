"""A finished artifact, as Python and notebooks see it: its files, its facts, its rows with their texts, its lineage."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError
from micota.generation.repetition import loops
from micota.specs import Source
from micota.store.artifacts import Store
from micota.store.manifest import Manifest
from micota.store.pool import find
from micota.store.records import read_rows
from micota.store.resolution import fetch

DATA = {"select", "candidate", "redraw", "filter", "rewrite", "mix", "rows"}
"""Kinds whose rows are training data."""

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Artifact:
    """What a spec came to. Of a model, `path` is an ordinary Hugging Face folder.

    >>> model = ws.make(mc.train(student, long))  # doctest: +SKIP
    >>> transformers.AutoModelForCausalLM.from_pretrained(model.path)  # doctest: +SKIP
    """

    store: Store
    manifest: Manifest
    source: Source | None = None
    """What was made elsewhere, and has no files in the store."""

    @classmethod
    def made_elsewhere(cls, store: Store, source: Source) -> Artifact:
        """A model of the Hub or a local folder, as if it were an artifact."""
        fields, content = source.own_fields, str(store.content(source))
        return cls(store, Manifest("source", source.version, source.digest, fields, {}, "", content, {}), source)

    @property
    def id(self) -> str:
        """KIND-DIGEST, by which `micota show` knows it too."""
        return self.manifest.id

    @property
    def path(self) -> Path:
        """The folder of its files; raises MicotaError if they were removed. A model of the Hub is downloaded."""
        if self.source is not None:
            return fetch(self.source, "model")
        if not self.store.whole(self.manifest):
            raise MicotaError(f"the files of {self.id} were removed", fix="Workspace.make(spec) makes them again")
        if damaged := self.store.damaged(self.manifest):
            fix = "Workspace.make(spec) makes it again"
            raise MicotaError(f"{self.id} is damaged: {', '.join(damaged)} changed after it was written", fix=fix)
        return self.store.files(self.manifest)

    @property
    def facts(self) -> dict[str, Any]:
        """Counts and figures of the stage, such as rows, tokens, losses."""
        return dict(self.manifest.facts)

    @property
    def lineage(self) -> list[str]:
        """The ids of all artifacts that it was made of, each before what was made of it, itself last."""
        from micota.export.lineage import ancestors

        return [one.id for one in ancestors(self.store, self.manifest)]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its rows: problems, answers, verdicts, or training data; of those that refer to the pool with their texts.

        Answers and verdicts have `problem`, `gold`, `prompt` and `response`; training data `prompt` and `response`.
        """
        file = self.path / "rows.jsonl"
        if not file.is_file():
            raise MicotaError(f"{self.id} has no rows", fix=f"its files are in {self.path}")
        rows = read_rows(file)
        if self.manifest.kind in ("generate", "verify"):
            yield from self._answers(rows)
        elif self.manifest.kind in DATA:
            pools = [self.store.pool(pool) for pool in self.manifest.pools]
            for row, answer in zip(rows, find(pools, rows), strict=True):
                yield {**row, "prompt": answer.prompt, "response": answer.target}
        else:
            yield from rows

    def frame(self) -> DataFrame:
        """Its rows as a pandas frame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def export(self, folder: str | Path) -> Path:
        """Copy it into a folder of its own with a card: a model as one that serves, training data as rows."""
        from micota.export import folder as exports

        out = Path(folder)
        exports.export(self.store, self.manifest, self.id, out, str(out), lambda done, total: None)
        return out

    def _answers(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Rows of answers, or of verdicts on them, with the problem, the response and what generated it."""
        inputs = [self.store.manifest_of(name) for name in self.manifest.children.values()]
        manifests = {one.kind: one for one in (*inputs, self.manifest) if one is not None}
        if "generate" not in manifests:
            raise MicotaError(f"the answers that {self.id} grades were removed", fix="make them again")
        asked = {row["key"]: row for row in self.store.rows(manifests.get("problems"))}
        pools = [self.store.pool(pool) for pool in manifests["generate"].pools]
        wanted = rows if self.manifest.kind == "generate" else self.store.rows(manifests["generate"])
        found = {(one.key, one.sample): one for one in find(pools, wanted)}
        for row in rows:
            answer, problem = found[row["key"], row["sample"]], asked.get(row["key"], {})
            texts = {"problem": problem.get("problem"), "gold": problem.get("answer"), "prompt": answer.prompt}
            yield {
                **row,
                **texts,
                "response": answer.target,
                "finish_reason": answer.finish_reason,
                "repetitive": loops(answer.text),
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
                "engine": answer.engine,
            }

    def __repr__(self) -> str:
        facts = ", ".join(f"{k} {v}" for k, v in self.facts.items() if isinstance(v, int | float))
        return f"<Artifact {self.id}: {facts}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(str(k))}</td><td>{html.escape(str(v)[:200])}</td></tr>"
            for k, v in self.facts.items()
        )
        return f"<p><b>{html.escape(self.id)}</b></p><table>{rows}</table>"
