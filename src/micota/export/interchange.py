"""`micota export --format`: what is written for other programs, in place of a folder of a model or rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from micota.atomic import check_free, write_text
from micota.errors import MicotaError, suggestion
from micota.export import data_formats, result_formats
from micota.export.lineage import DATA
from micota.export.merge_yaml import merge_yaml
from micota.store.artifacts import Store

MERGEKIT = "mergekit"


def write(store: Store, name: str, out: Path, form: str | None, sets: Sequence[str] = ()) -> bool:
    """Write the results of a recipe, or a merge, in a format of another program; whether the format is one of these.

    Raises MicotaError for an unknown format, and for one that does not go with what is named.
    """
    if form in result_formats.FORMATS:
        from micota.recipe.recipe import load
        from micota.report.results import Results

        result_formats.write(Results(load(name, sets), store), out, str(form))
        return True
    if sets:
        raise MicotaError("--set belongs to a recipe", fix="name what it made, as in lab-mini+micota.lr=1e-3/micota")
    if form == MERGEKIT:
        check_free(out)
        text = merge_yaml(store, store.find(name))
        write_text(out / "merge.yml", text)
        return True
    known = [*data_formats.FORMATS, MERGEKIT, *result_formats.FORMATS]
    if form is not None and form not in known:
        raise MicotaError(f"'{form}' is no format", fix=suggestion(form, known))
    if form is not None and store.find(name).kind not in DATA:
        raise MicotaError(f"'{name}' is no training data, which the format {form} is for", fix="leave --format out")
    return False
