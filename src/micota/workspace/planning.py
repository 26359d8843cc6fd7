"""What a run would find done, partial or new, and what the rest will cost; nothing is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from micota.machine import MachineProfile
from micota.recipe.labels import labels
from micota.recipe.recipe import Recipe
from micota.run import plan
from micota.specs import Spec
from micota.store.artifacts import Store

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Plan:
    """The state of every spec below the targets, in the order in which they would be made."""

    recipe: Recipe
    store: Store
    machine: MachineProfile
    targets: Sequence[Spec]
    states: Sequence[plan.State]

    @classmethod
    def of(cls, recipe: Recipe, store: Store, machine: MachineProfile, targets: Sequence[Spec]) -> Plan:
        """Look at the store, and at nothing else."""
        return cls(recipe, store, machine, targets, plan.survey(store, targets))

    @property
    def frame(self) -> DataFrame:
        """A row for each spec: state, kind, name, artifact, note."""
        import pandas as pd

        names = labels(self.recipe)
        rows = [
            {
                "state": one.word,
                "kind": one.spec.kind,
                "name": names.get(one.spec.digest, ""),
                "artifact": one.spec.digest,
                "note": one.note,
            }
            for one in self.states
        ]
        return pd.DataFrame(rows)

    def cost(self) -> DataFrame:
        """The estimated remaining cost on the workspace's machine: a row for each stage, with the range of hours.

        Columns: kind, name, state, hours_low, hours_high, memory_gb, fits (what to change where it does not).
        """
        import pandas as pd

        from micota.costs.estimates import Costs

        names = labels(self.recipe)
        rows = [
            {
                "kind": one.spec.kind,
                "name": names.get(one.spec.digest, ""),
                "state": one.word,
                "hours_low": one.hours.low,
                "hours_high": one.hours.high,
                "memory_gb": one.memory / 1e9,
                "fits": one.misfit is None,
            }
            for one in Costs(self.store, self.machine, self.targets).all()
        ]
        return pd.DataFrame(rows)

    def why(self, name: str) -> list[str]:
        """In words, why a name of the recipe is not done: how it differs from the nearest artifact of its kind."""
        return plan.why(self.store, self.recipe.named(name))

    def __repr__(self) -> str:
        counts = Counter(one.word for one in self.states)
        return f"<Plan: {', '.join(f'{n} {word}' for word, n in counts.items()) or 'nothing to make'}>"

    def _repr_html_(self) -> str:
        return f"<p>{repr(self)[1:-1]}</p>{self.frame.to_html(index=False, escape=True)}"
