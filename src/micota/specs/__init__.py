"""Specs: frozen nouns that say what an artifact is. Equal specs have equal digests and are one artifact.

A spec's fields are literals or other specs; a spec inside a spec is an edge of the plan. The digest covers the kind,
its version, the fields that differ from their defaults, and the digests of the children; nothing of where or how
fast it is made. Bump a kind's VERSION when its meaning changes.
"""

from micota.specs.asking import DEFAULT_PROMPT, Prompt, Sampling
from micota.specs.dialling import Dial, Probe, Search, Target
from micota.specs.given import Problems, Rows, Source
from micota.specs.kinds import (
    GRADERS,
    Bpc,
    Generate,
    Lora,
    Merge,
    Mix,
    Part,
    Precision,
    Redraw,
    Select,
    Train,
    Verify,
    systems,
)
from micota.specs.pretraining import Phase, Pretrain, Shape
from micota.specs.spec import Choice, Spec, Value, sha
from micota.specs.table import KINDS, Data, Model
from micota.specs.tree import from_json, to_json, walk

__all__ = [
    "DEFAULT_PROMPT",
    "GRADERS",
    "KINDS",
    "Bpc",
    "Choice",
    "Data",
    "Dial",
    "Generate",
    "Lora",
    "Merge",
    "Mix",
    "Model",
    "Part",
    "Phase",
    "Precision",
    "Pretrain",
    "Probe",
    "Problems",
    "Prompt",
    "Redraw",
    "Rows",
    "Sampling",
    "Search",
    "Select",
    "Shape",
    "Source",
    "Spec",
    "Target",
    "Train",
    "Value",
    "Verify",
    "from_json",
    "sha",
    "systems",
    "to_json",
    "walk",
]
