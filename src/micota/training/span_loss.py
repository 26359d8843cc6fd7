"""The divergence from a teacher with another tokenizer: GOLD's hybrid loss, span by span, in chunks.

A span is the shortest piece of an answer at whose ends tokens of both tokenizers end. Its distribution is that of its
last token times the probabilities of the tokens before it, by the chain rule. Over the tokens that both vocabularies
have, the generalized Jensen-Shannon divergence is taken; over the rest the distance of the sorted probabilities, which
is that of Universal Logit Distillation (Boizard et al., arXiv 2402.12030, Eq. 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from micota.training import head_logs
from micota.training.head_logs import Head
from micota.training.token_alignment import INSIDE, LAST

FLOOR = 1e-8
"""The least probability that counts, as in TRL's loss."""


@dataclass(frozen=True)
class Side:
    """A model's head, the tokens (row, position) of its answers, and what each of these is to its span."""

    head: Head
    tokens: Any
    marks: Any

    def ends(self) -> Any:
        """The places at which spans end."""
        return (self.marks.flatten() == LAST).nonzero().squeeze(1)

    def before(self) -> Any:
        """For each span the log-probability of its tokens before the last."""
        import torch
        from torch.utils.checkpoint import checkpoint

        marks = self.marks.flatten()
        last = (marks == LAST).long()
        span, places = last.cumsum(0) - last, (marks == INSIDE).nonzero().squeeze(1)
        total = torch.zeros(int(last.sum()), dtype=self.head.dtype, device=marks.device)

        def picked(chunk: Any) -> Any:
            tokens = self.tokens.flatten()[chunk].unsqueeze(1)
            return self.head.logs(chunk).gather(1, tokens).squeeze(1).exp().clamp_min(FLOOR).log()

        for chunk in places.split(max(1, head_logs.LOGITS // len(self.head.weight))):
            total = total.index_add(0, span[chunk], checkpoint(picked, chunk, use_reentrant=False))
        return total


def span_loss(student: Side, teacher: Side, shared: Any, beta: float) -> tuple[Any, Any, int]:
    """The sum of the spans' divergences, that of the entropies of the student's last tokens, and the spans' number.

    `shared` (pair, 2) are the ids of the tokens that both vocabularies have. Only the student gets a gradient.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    ours, theirs = student.ends(), teacher.ends()
    rows = [len(side.head.weight) for side in (student, teacher)]
    alone, share = _masks(shared, *rows), len(shared) / rows[1]
    with torch.no_grad():
        taught = teacher.before()
    learnt = student.before()

    def part(here: Any, there: Any, prefix: Any, other: Any) -> Any:
        with torch.no_grad():
            q = (teacher.head.logs(there) + other.unsqueeze(1)).exp()
        logs = student.head.logs(here)
        p = (logs + prefix.unsqueeze(1)).exp()
        known = divergence(p[:, shared[:, 0]], q[:, shared[:, 1]], beta).sum()
        rest = _sorted_distance(p[:, alone[0]], q[:, alone[1]]).sum()
        return torch.stack([share * known + (1 - share) * rest, -(logs.exp() * logs).sum().detach()])

    sums = torch.zeros(2, device=ours.device) + (0 if len(ours) else student.head.nothing)
    size = max(1, head_logs.LOGITS // max(rows))
    for chunk in zip(*(one.split(size) for one in (ours, theirs, learnt, taught)), strict=True):
        sums = sums + checkpoint(part, *chunk, use_reentrant=False)
    return sums[0], sums[1].detach(), len(ours)


def _masks(shared: Any, *rows: int) -> list[Any]:
    """For each vocabulary, which of its tokens the other lacks."""
    import torch

    masks = [torch.ones(size, dtype=torch.bool, device=shared.device) for size in rows]
    for mask, ids in zip(masks, shared.T, strict=True):
        mask[ids] = False
    return masks


def divergence(p: Any, q: Any, beta: float) -> Any:
    """The terms of the generalized Jensen-Shannon divergence of probabilities: KL(q || p) at beta 0, KL(p || q) at 1
    (Agarwal et al., arXiv 2306.13649, Eq. 1)."""
    p, q = p.clamp_min(FLOOR), q.clamp_min(FLOOR)
    mixture = (beta * q + (1 - beta) * p).log()
    if beta in (0, 1):
        return p * (p.log() - mixture) if beta else q * (q.log() - mixture)
    return beta * q * (q.log() - mixture) + (1 - beta) * p * (p.log() - mixture)


def _sorted_distance(p: Any, q: Any) -> Any:
    """The distance of probabilities that have no common tokens, the largest beside the largest; the shorter is
    filled with zeros. None, as in TRL, where one vocabulary is a part of the other."""
    import torch

    if not (p.shape[1] and q.shape[1]):
        return p.new_zeros(len(p))
    width = max(p.shape[1], q.shape[1])
    p, q = (torch.nn.functional.pad(one.sort(-1, descending=True).values, (0, width - one.shape[1])) for one in (p, q))
    return (p - q).abs().sum(-1)
