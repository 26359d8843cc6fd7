"""The table of all kinds, what counts as a model and as data, and the ends of the circle between them."""

from __future__ import annotations

from micota.specs.dialling import Dial, Probe, Search, Target
from micota.specs.given import Problems, Rows, Source
from micota.specs.kinds import Bpc, Generate, Merge, Mix, Part, Redraw, Select, Train, Verify
from micota.specs.pretraining import Pretrain
from micota.specs.spec import Spec

Model = Source | Pretrain | Train | Merge | Dial
Data = Select | Mix | Redraw | Rows
_KINDS = (Source, Problems, Rows, Generate, Verify, Select, Redraw, Mix, Pretrain, Train, Merge, Search, Dial, Bpc)
KINDS: dict[str, type[Spec]] = {cls.kind: cls for cls in _KINDS}
for _cls in (Generate, Part, Mix, Train, Merge, Target, Search, Dial, Bpc, Select, Redraw, Verify, Probe, Pretrain):
    _cls.model_rebuild(_types_namespace={"Model": Model, "Data": Data})
