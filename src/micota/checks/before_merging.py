"""Mistakes of a merge before its models are trained: the models that they come from are compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from micota.checks import weights
from micota.checks.finding import Finding
from micota.errors import MicotaError
from micota.merging.compatibility import compare
from micota.merging.model_files import CONFIG, read_object
from micota.merging.stacks import layers_of, refuse_beyond
from micota.specs import LengthDial, Merge, Model, Slice, Source, Spec
from micota.store.resolution import cached_tokenizer


def tokenizer_source(model: Model) -> Source | None:
    """The model made elsewhere whose tokenizer a model has; None for a pre-trained one."""
    while model.parents:
        model = model.parents[:2][-1]  # of a merge the first model after the base
    return model if isinstance(model, Source) else None


def inspect_merges(specs: Iterable[Spec]) -> Iterator[Finding]:
    """What a merge would refuse, before a training of its models: the models that they come from are compared."""
    for spec in specs:
        if not isinstance(spec, Merge | LengthDial):
            continue
        sources = [tokenizer_source(model) for model in spec.models if not isinstance(model, Source)]
        yield from weights.lost_by_training(tokenizer_source(spec.base), [one for one in sources if one])
        stack = spec.slices if isinstance(spec, Merge) else ()
        pairs = [(one.model, partial(_refuse_layers, one)) for one in stack]
        pairs += [(other, partial(_refuse_pair, spec.base, other)) for other in dict.fromkeys(spec.models)]
        for model, refuse in pairs:
            try:
                refuse()
            except MicotaError as error:
                names = [one.ref for one in (tokenizer_source(model), tokenizer_source(spec.base)) if one]
                yield Finding("merge", " with ".join(names), error.what, error.why or "", error.fix or "")


def _refuse_layers(one: Slice) -> None:
    """Raise MicotaError if a slice goes beyond the model's last layer."""
    if count := _layers(one.model):
        refuse_beyond(one.layers[1], count, "", one.layers[0])


def _refuse_pair(base: Model, other: Model) -> None:
    """Raise MicotaError if two models, or those that they come from, cannot be merged."""
    here, there = (tokenizer_source(model) for model in (base, other))  # None: pre-trained by this recipe
    counts = [_layers(model) for model in (base, other)]
    if base.stacked != other.stacked and None not in counts and counts[0] != counts[1]:
        what, fix = f"a merge of {counts[0]} layers with {counts[1]}", "take a base with the layers of its models"
        raise MicotaError(what, fix=fix)
    if here and there and here != there and (first := cached_tokenizer(here)) and (second := cached_tokenizer(there)):
        compare(first, [second])


def _layers(model: Model) -> int | None:
    """How many layers a model has; None if that is not known here."""
    source = tokenizer_source(model)
    folder = cached_tokenizer(source) if source and not model.stacked else None
    return layers_of(read_object(folder / CONFIG)) if folder else model.stacked
