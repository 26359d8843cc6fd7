"""Specs: frozen nouns that say what an artifact is. Equal specs have equal digests and are one artifact.

A spec's fields are literals or other specs; a spec inside a spec is an edge of the plan. The digest covers the kind,
its version, the fields that differ from their defaults, and the digests of the children; nothing of where or how
fast it is made. Bump a kind's VERSION when its meaning changes.
"""

from micota.specs.chains import GRADERS, Generate, Precision, RejectionSampling, Select, Verify
from micota.specs.fine_tuning import Bpc, FineTuned, Lora, Mix, MixtureComponent, Scoring, SelectBy, Train
from micota.specs.inquiries import JUDGE, REWRITE, Inquiry, Judge, Rewrite, asked_to_judge
from micota.specs.lab_pretraining import Phase, Pretrain, Shape
from micota.specs.length_dial import CandidateChains, Learner, LengthDial, MergeSearch, Probe, Target
from micota.specs.merges import Adapter, Merge, Slice
from micota.specs.on_policy import BETA, OnPolicyDistillation
from micota.specs.sampling import DEFAULT_PROMPT, Prompt, Sampling
from micota.specs.sources import Problems, SftData, Source, Subset
from micota.specs.spec import Choice, Data, FrozenModel, Model, ProblemSet, Spec, sha
from micota.specs.table import KINDS
from micota.specs.tree import from_json, replace, to_json, walk

__all__ = [
    "BETA",
    "DEFAULT_PROMPT",
    "GRADERS",
    "JUDGE",
    "KINDS",
    "REWRITE",
    "Adapter",
    "Bpc",
    "CandidateChains",
    "Choice",
    "Data",
    "FineTuned",
    "FrozenModel",
    "Generate",
    "Inquiry",
    "Judge",
    "Learner",
    "LengthDial",
    "Lora",
    "Merge",
    "MergeSearch",
    "Mix",
    "MixtureComponent",
    "Model",
    "OnPolicyDistillation",
    "Phase",
    "Precision",
    "Pretrain",
    "Probe",
    "ProblemSet",
    "Problems",
    "Prompt",
    "RejectionSampling",
    "Rewrite",
    "Sampling",
    "Scoring",
    "Select",
    "SelectBy",
    "SftData",
    "Shape",
    "Slice",
    "Source",
    "Spec",
    "Subset",
    "Target",
    "Train",
    "Verify",
    "asked_to_judge",
    "from_json",
    "replace",
    "sha",
    "to_json",
    "walk",
]
