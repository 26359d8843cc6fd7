"""Results as others read them: logs of inspect_ai, files of lm-evaluation-harness, metadata of the Hub."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import micota
from micota.atomic import atomic, check_free, write_text
from micota.errors import MicotaError
from micota.recipe.variants import piece
from micota.report.answer_frame import by_problem, variables_of
from micota.report.results import Results
from micota.stats import Estimate, proportion
from micota.store.records import text_key

if TYPE_CHECKING:
    from pandas import DataFrame

SCORES = {"correct": "C", "wrong": "I", "no_answer": "N", "unverifiable": "N"}
"""inspect_ai's letters; N, no answer, counts as wrong."""
HASHED = {"doc": "problem_text", "prompt": "problem_text", "target": "gold"}


def write(results: Results, out: Path, form: str) -> int:
    """Write all results into the folder `out` in one of FORMATS; returns the number of files.

    Raises MicotaError where there are none, where two files would have one name, or where the folder holds something.
    """
    if results.frame.empty:
        raise MicotaError(f"{results.recipe.name} has no results yet", fix="micota run RECIPE")
    if results.frame["fake"].any():
        why = "some of the answers are invented, and other programs' files cannot say so"
        raise MicotaError(f"the results of {results.recipe.name} are not exported", why=why, fix="a run with an engine")
    check_free(out)
    files = list(FORMATS[form](results, datetime.now(UTC)))
    if twice := [name for name, n in Counter(name for name, _ in files).items() if n > 1]:
        why = "two models, or two benchmarks, have names that come to the same"
        raise MicotaError(f"{out / twice[0]} would be written twice", why=why, fix="rename one of them in the recipe")
    with atomic(out) as temporary:
        for name, text in files:
            write_text(temporary / name, text)
    return len(files)


def _parts(results: Results) -> Iterator[tuple[str, str, DataFrame]]:
    """Each model on each benchmark by their labels, with its rows and their texts, all scorers together."""
    import pandas as pd

    groups: dict[tuple[str, str], list[DataFrame]] = {}
    for cell, rows in zip(results.recipe.evaluations, results.parts, strict=True):
        if len(rows):
            groups.setdefault((cell.model, cell.data), []).append(rows)
    for (model, benchmark), parts in groups.items():
        texts = results.with_texts(pd.concat(parts))
        yield model, benchmark, texts.fillna({"response": "", "problem_text": "", "gold": ""})


def _inspect(results: Results, now: datetime) -> Iterator[tuple[str, str]]:
    """A log for each model and benchmark, with a score of every scorer for each sample."""
    for model, benchmark, rows in _parts(results):
        name, stamp = f"{_word(model)}_{_word(benchmark)}", now.isoformat(timespec="seconds")
        samples = [_inspect_sample(key, inside) for key, inside in rows.groupby(["problem", "sample"], sort=False)]
        epochs = int(rows["sample"].max()) + 1
        dataset = {"name": benchmark, "samples": int(rows["problem"].nunique()), "shuffled": False}
        spec: dict[str, Any] = {
            "eval_id": text_key(name, "eval"),
            "run_id": text_key(results.recipe.name, "run"),
            "created": stamp,
        }
        spec |= {"task": benchmark, "task_id": text_key(name), "model": f"micota/{model}", "dataset": dataset}
        spec |= {"config": {"epochs": epochs}, "packages": {"micota": micota.__version__}}
        scores = [
            {"name": by, "scorer": by, "metrics": _inspect_metrics(_accuracy(inside))}
            for by, inside in rows.groupby("scorer", observed=True, sort=False)
        ]
        counts = {"total_samples": len(samples), "completed_samples": len(samples)}
        log = {"version": 2, "status": "success", "eval": spec, "plan": {"name": "plan", "steps": []}}
        log |= {"results": {**counts, "scores": scores}, "stats": {"started_at": stamp, "completed_at": stamp}}
        yield f"{now:%Y-%m-%dT%H-%M-%S+00-00}_{name}.json", json.dumps({**log, "samples": samples}, indent=1)


def _inspect_metrics(found: Estimate) -> dict[str, Any]:
    """Accuracy and its standard error, which one problem alone does not have."""
    figures = {"accuracy": found.value, "stderr": found.error}
    return {name: {"name": name, "value": value} for name, value in figures.items() if value == value}


def _inspect_sample(key: Any, rows: DataFrame) -> dict[str, Any]:
    first = rows.iloc[0]
    answer = {"role": "assistant", "content": first["response"], "source": "generate"}
    stop = "max_tokens" if first["truncated"] else "stop"
    usage = {"input_tokens": 0, "output_tokens": int(first["tokens"]), "total_tokens": int(first["tokens"])}
    output = {"model": str(first["model"]), "choices": [{"message": answer, "stop_reason": stop}], "usage": usage}
    scores = {
        str(row["scorer"]): {
            "value": SCORES[row["verdict"]],
            "answer": _text(row["answer"]),
            "explanation": row["verdict"],
        }
        for _, row in rows.iterrows()
    }
    messages = [{"role": "user", "content": first["problem_text"]}, answer]
    same = {"id": str(key[0]), "epoch": int(key[1]) + 1, "input": first["problem_text"], "target": first["gold"]}
    used = {"model_usage": {output["model"]: usage}}  # what inspect's list of samples shows
    return {**same, "messages": messages, "output": output, "scores": scores, "metadata": {}, **used}


def _lm_eval(results: Results, now: datetime) -> Iterator[tuple[str, str]]:
    """For each model a folder with one file of results and a file of samples for each benchmark."""
    stamp = now.strftime("%Y-%m-%dT%H-%M-%S.%f")
    found: dict[str, dict[str, Any]] = {}
    for model, benchmark, rows in _parts(results):
        name, task = piece(model), piece(benchmark)
        by_scorer = list(rows.groupby("scorer", observed=True, sort=False))
        figures: dict[str, Any] = {"alias": task}
        for by, inside in by_scorer:
            right = _accuracy(inside)
            error = right.error if right.error == right.error else "N/A"  # as lm-eval says it
            figures |= {f"exact_match,{by}": right.value, f"exact_match_stderr,{by}": error}
        whole = found.setdefault(model, {
            "results": {}, "group_subtasks": {}, "configs": {}, "versions": {}, "n-shot": {}, "higher_is_better": {},
            "n-samples": {}, "config": {"model": "micota", "model_args": f"pretrained={model}"},
            "date": now.timestamp(),
            "model_source": "micota", "model_name": model, "model_name_sanitized": name,
        })  # fmt: skip
        n = int(rows["problem"].nunique())
        whole["results"][task] = figures
        whole["configs"][task] = {
            "task": task,
            "output_type": "generate_until",
            "metric_list": [{"metric": "exact_match"}],
        }
        whole["versions"][task], whole["n-shot"][task] = 1.0, 0
        whole["higher_is_better"][task] = {"exact_match": True}
        whole["n-samples"][task] = {"original": n, "effective": n}
        asked = list(rows.groupby("problem", sort=False))
        lines = [
            _lm_eval_sample(i, str(by), graded)
            for i, (_, inside) in enumerate(asked)
            for by, graded in inside.groupby("scorer", observed=True, sort=False)
        ]
        yield f"{name}/samples_{task}_{stamp}.jsonl", "".join(json.dumps(line) + "\n" for line in lines)
    for model, whole in found.items():
        yield f"{piece(model)}/results_{stamp}.json", json.dumps(whole, indent=2)


def _lm_eval_sample(i: int, by: str, rows: DataFrame) -> dict[str, Any]:
    """All samples of one problem under one scorer, which is lm-eval's filter."""
    first = rows.iloc[0]
    hashes = {f"{name}_hash": text_key(first[of]) for name, of in HASHED.items()}
    return {
        "doc_id": i,
        "doc": {"problem": first["problem_text"], "answer": first["gold"]},
        "target": first["gold"],
        "arguments": {"gen_args_0": {"arg_0": first["problem_text"], "arg_1": {}}},
        "resps": [rows["response"].tolist()],
        "filtered_resps": [_text(answer) or "" for answer in rows["answer"]],
        "filter": by,
        "metrics": ["exact_match"],
        **hashes,
        "exact_match": float((rows["verdict"] == "correct").mean()),
    }


def _hub(results: Results, now: datetime) -> Iterator[tuple[str, str]]:
    """For each model the metadata `model-index` of a model card, to be put at the head of its README.md."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index
    from pandas import isna
    from yaml import safe_dump

    table = results.table()
    variables = [name for name in variables_of(results.frame) if name in table]
    for model, rows in table.groupby("arm", observed=True, sort=False):
        entries = []
        for _, row in rows.iterrows():
            values = {name: str(row[name]) for name in variables if not isna(row[name])}
            said = ", ".join([str(row["scorer"]), *(f"{name}={value}" for name, value in values.items())])
            figures = {"n": int(row["n"]), "standard error": round(100 * row["error"], 4)}
            entries.append(EvalResult(
                task_type="text-generation", dataset_type=str(row["benchmark"]), dataset_name=str(row["benchmark"]),
                metric_type="accuracy", metric_name=f"accuracy ({said})",
                metric_value=round(100 * row["accuracy"], 4),
                metric_args=figures | ({"variables": values} if values else {}),
            ))  # fmt: skip
        index = {"model-index": eval_results_to_model_index(str(model), entries)}
        yield f"{piece(str(model))}.md", f"---\n{safe_dump(index, sort_keys=False)}---\n"


def _accuracy(rows: DataFrame) -> Estimate:
    """The accuracy of one model on one benchmark under one scorer with its standard error, from its own rows."""
    return proportion(by_problem(rows.assign(correct=rows["verdict"] == "correct"), "correct").tolist())


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _word(name: str) -> str:
    """A piece of a path without `_`, which parts the words in the names of inspect_ai's logs."""
    word = piece(name)
    return f"{word.replace('_', '-')}-{text_key(name)[:8]}" if "_" in word else word


FORMATS: dict[str, Callable[[Results, datetime], Iterator[tuple[str, str]]]] = {
    "inspect": _inspect,
    "lm-eval": _lm_eval,
    "hub": _hub,
}
"""By the word of `--format` what makes the names and texts of the files."""
