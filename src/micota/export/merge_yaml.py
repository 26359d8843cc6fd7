"""A merge as mergekit's YAML, which mergekit and `micota merge` read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from micota.errors import MicotaError
from micota.export.lineage import ancestors, origin
from micota.merging.settings import THINNING
from micota.store.artifacts import Store
from micota.store.manifest import ID, Manifest
from micota.store.resolution import LAB_MODELS

METHODS = ("linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties")


def merge_yaml(store: Store, manifest: Manifest) -> str:
    """The configuration of the merge that an artifact is; models are Hub ids, or folders of the store and this machine.

    mergekit draws other masks: of the methods that drop entries at random it makes another draw of the same merge.
    Raises MicotaError for what is no merge.
    """
    import yaml

    known = {one.id: one for one in ancestors(store, manifest)}
    found = known.get(manifest.holder, manifest)
    if found.kind != "merge":
        raise MicotaError(f"{manifest.id} is no merge", fix="name a merge, or a dial: lab-mini/ta-mid")
    return yaml.safe_dump(configuration(store, found), sort_keys=False)


def configuration(store: Store, manifest: Manifest) -> dict[str, Any]:
    """The mapping that mergekit reads."""
    fields = manifest.fields
    base, models = _ref(store, manifest, fields["base"]), [_ref(store, manifest, one) for one in fields["models"]]
    method, weights = fields["method"], fields.get("weights", [])
    if method not in METHODS:
        what = f"a merge by {method} is not exported"
        raise MicotaError(what, why=f"only {', '.join(METHODS)} are", fix="write its YAML by hand: docs/merging.md")
    top: dict[str, Any] = {"merge_method": method, **({} if method == "linear" else {"base_model": base})}
    if method == "slerp":
        return {**top, "models": [{"model": ref} for ref in models], "parameters": {"t": weights[0]}}
    own: dict[str, Any] = {"density": fields.get("density", 1.0)} if method in THINNING else {}
    listed = [{"model": ref, "parameters": {"weight": w, **own}} for ref, w in zip(models, weights, strict=True)]
    return {**top, "models": listed, "parameters": _shared(fields, method)}


def _shared(fields: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The global parameters. mergekit rescales by the sum of absolute values or not at all; one divided by the density,
    the same for every entry, is a factor of the merged task vector."""
    factor, shared = fields.get("lambda", fields.get("lambda_", 1.0)), {}
    if method in THINNING:
        shared["rescale"] = fields.get("rescale") == "l1"
        if fields.get("rescale") == "inverse_density":
            factor = factor / fields.get("density", 1.0)
    if method != "linear":
        shared["lambda"] = factor
    default = method in ("linear", "ties")
    shared["normalize"] = default if fields.get("normalize") is None else fields["normalize"]
    return shared


def _ref(store: Store, manifest: Manifest, child: Mapping[str, str]) -> str:
    """What mergekit loads: a Hub id, or a folder."""
    name = manifest.children[child["$"]]
    if ID.fullmatch(name):
        below = store.manifest_of(name)
        if below is None or not store.whole(below):
            raise MicotaError(f"the files of {name} were removed", fix="run the recipe with --only, then export again")
        return str(store.files(below).absolute())
    if name.startswith("lab:"):
        return str(LAB_MODELS / name.removeprefix("lab:"))
    made = origin(store, manifest, child["$"])
    return f"{name}@{made.revision}" if made.hub and made.revision else name
