"""The table of all kinds of spec, by the names that recipes and stores know them by."""

from __future__ import annotations

from micota.specs.chains import Generate, RejectionSampling, Select, Verify
from micota.specs.fine_tuning import Bpc, Mix, SelectBy, Train
from micota.specs.inquiries import Inquiry, Rewrite
from micota.specs.lab_pretraining import Pretrain
from micota.specs.length_dial import CandidateChains, LengthDial, MergeSearch
from micota.specs.merges import Adapter, Merge
from micota.specs.on_policy import OnPolicyDistillation
from micota.specs.sources import Problems, SftData, Source
from micota.specs.spec import Spec

_DATA = (Source, Problems, SftData, Generate, Verify, Select, RejectionSampling, Mix, SelectBy, Inquiry, Rewrite)
_MODELS = (Pretrain, Train, OnPolicyDistillation, Adapter, Merge, MergeSearch, CandidateChains, LengthDial, Bpc)
KINDS: dict[str, type[Spec]] = {cls.kind: cls for cls in (*_DATA, *_MODELS)}
