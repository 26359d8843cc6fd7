"""The table of all kinds, what counts as a model and as data, and the ends of the circle between them."""

from __future__ import annotations

from micota.specs.kinds import Bpc, Generate, Merge, Mix, MixtureComponent, RejectionSampling, Select, Train, Verify
from micota.specs.lab_pretraining import Pretrain
from micota.specs.length_dial import LengthDial, MergeSearch, Probe, Target
from micota.specs.sources import Problems, SftData, Source
from micota.specs.spec import Spec

Model = Source | Pretrain | Train | Merge | LengthDial
Data = Select | Mix | RejectionSampling | SftData
_KINDS = (
    Source,
    Problems,
    SftData,
    Generate,
    Verify,
    Select,
    RejectionSampling,
    Mix,
    Pretrain,
    Train,
    Merge,
    MergeSearch,
    LengthDial,
    Bpc,
)
KINDS: dict[str, type[Spec]] = {cls.kind: cls for cls in _KINDS}
for _cls in (
    Generate,
    MixtureComponent,
    Mix,
    Train,
    Merge,
    Target,
    MergeSearch,
    LengthDial,
    Bpc,
    Select,
    RejectionSampling,
    Verify,
    Probe,
    Pretrain,
):
    _cls.model_rebuild(_types_namespace={"Model": Model, "Data": Data})
