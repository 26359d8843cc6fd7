"""A teacher scores responses, each once: what its table lacks, in as many processes as the training has.

Rows are dealt out by their keys into shares, each with a lock of the kernel. A process fills the shares that no other
holds, then waits for the others; a share that a lost process left is filled by whoever comes to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from micota.errors import MicotaError
from micota.specs import OnPolicyDistillation
from micota.store.locks import locked
from micota.store.task import Task
from micota.training.head_logs import LOGITS, Head
from micota.training.head_product import check_product
from micota.training.rollouts import Prompt
from micota.training.teacher_table import Targets, TeacherTable, row_key

SHARES = "0123456789abcdef"


def filled(task: Task, prompts: Iterable[Prompt], vocabulary: int, load: Callable[[], Any]) -> tuple[TeacherTable, int]:
    """The table that has the targets of all these responses, and how many this process scored: before anything else is
    loaded, by the teacher that `load` gives, which is let go of at the end. Raises Stopped between two files."""
    spec = task.spec
    assert isinstance(spec, OnPolicyDistillation) and spec.top_k
    rows = {row_key(prompt.ids, prompt.response): prompt for prompt in prompts}
    folder = task.store.root / "targets" / spec.targets(task.input(spec.teacher).content, vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    table, scored = TeacherTable(folder, min(spec.top_k, vocabulary)), 0

    @cache
    def teacher() -> Any:
        model = load().eval()
        check_product(model)
        return model

    for wait in (False, True):
        for share in SHARES:
            if all(key in table for key in rows if key[0] == share):
                continue
            with locked(folder / f"{share}.lock", wait) as held:
                table.refresh()
                lacking = [
                    (key, row.ids, row.response) for key, row in rows.items() if key[0] == share and key not in table
                ]
                if held and lacking:
                    new = targets(teacher(), lacking, table.top_k, spec.temperature, vocabulary)
                    for done in table.add(new):
                        task.progress(sum(key in table for key in rows) + done, len(rows), "scored responses")
                    scored += len(lacking)
                    table.refresh()
    return table, scored


def targets(
    model: Any,
    rows: Iterable[tuple[str, Sequence[int], Sequence[int]]],
    top_k: int,
    temperature: float,
    vocabulary: int,
) -> Iterator[tuple[str, Targets]]:
    """The targets of rows (key, prompt, response), one after the other, over the first `vocabulary` tokens."""
    import torch

    for key, prompt, response in rows:
        with torch.no_grad():
            ids = torch.tensor([[*prompt, *response]], device=model.device)
            states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, len(prompt) - 1 : -1]
            head = Head.of(model, states, temperature).first(vocabulary)
            parts = []
            for places in torch.split(torch.arange(len(response), device=ids.device), max(1, LOGITS // vocabulary)):
                logs = head.logs(places)
                top = logs.topk(top_k, dim=1)
                rest = logs.scatter(1, top.indices, -torch.inf).logsumexp(1)
                if rest.isnan().any() or top.values.isnan().any():
                    what, why = "the teacher gives NaN in place of probabilities", "it would be kept and learnt"
                    raise MicotaError(what, why=why, fix="precision: bfloat16 or float32 in the recipe")
                parts.append((top.indices.int().cpu(), top.values.cpu(), rest.cpu()))
        yield key, Targets(*(torch.cat(column).numpy() for column in zip(*parts, strict=True)))
