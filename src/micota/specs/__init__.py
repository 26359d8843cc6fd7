"""Specs: frozen nouns that say what an artifact is. Equal specs have equal digests and are one artifact.

A spec's fields are literals or other specs; a spec inside a spec is an edge of the plan. The digest covers the kind,
its version, the fields that differ from their defaults, and the digests of the children; nothing of where or how
fast it is made. Bump a kind's VERSION when its meaning changes.
"""

from micota.specs.kinds import (
    GRADERS,
    Bpc,
    Generate,
    Lora,
    Merge,
    Mix,
    MixtureComponent,
    Precision,
    RejectionSampling,
    Select,
    Train,
    Verify,
    systems,
)
from micota.specs.lab_pretraining import Phase, Pretrain, Shape
from micota.specs.length_dial import LengthDial, MergeSearch, Probe, Target
from micota.specs.sampling import DEFAULT_PROMPT, Prompt, Sampling
from micota.specs.sources import Problems, SftData, Source
from micota.specs.spec import Choice, FrozenModel, Spec, sha
from micota.specs.table import KINDS, Data, Model
from micota.specs.tree import from_json, to_json, walk

__all__ = [
    "DEFAULT_PROMPT",
    "GRADERS",
    "KINDS",
    "Bpc",
    "Choice",
    "Data",
    "FrozenModel",
    "Generate",
    "LengthDial",
    "Lora",
    "Merge",
    "MergeSearch",
    "Mix",
    "MixtureComponent",
    "Model",
    "Phase",
    "Precision",
    "Pretrain",
    "Probe",
    "Problems",
    "Prompt",
    "RejectionSampling",
    "Sampling",
    "Select",
    "SftData",
    "Shape",
    "Source",
    "Spec",
    "Target",
    "Train",
    "Verify",
    "from_json",
    "sha",
    "systems",
    "to_json",
    "walk",
]
