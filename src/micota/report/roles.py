"""The roles that the paper gives to models, and the names under which they are printed."""

from __future__ import annotations

from micota.recipe.labels import learnt_from
from micota.recipe.recipe import Recipe
from micota.specs import Data, LengthDial, RejectionSampling, Select, Source, Spec, Train

ROLES = {
    "teacher": "Teacher",
    "ta": "Assistant before fine-tuning",
    "ta_long": "Assistant after fine-tuning",
    "ta_mid": "Assistant, merged",
    "instruct": "Instruct",
    "short": "Short SFT",
    "strong": "Strong Teacher CoT",
    "half": "Half-size CoT",
    "mix_long": "Mix-Long",
    "micota": "MiCoTA",
}
"""What each role is called; the first four belong to the procedure, the others are arms."""
PROCEDURE = tuple(ROLES)[:4]
SCORERS = {"exact_match": "exact match", "semantic": "semantic"}
TOKENS = "_tokens"  # an arm `strong_tokens` is the arm `strong`, matched in target tokens instead of steps


def arm_of(word: str) -> str:
    """The paper's word for an arm: `strong` for `strong_tokens`; other words stay as they are."""
    base = word.removesuffix(TOKENS)
    return base if base in ROLES else word


def procedure_roles(recipe: Recipe) -> dict[str, str]:
    """The roles of teacher and assistants by the digests of their models, read off what the arms learn from."""
    roles: dict[str, str] = {}
    for label, spec in recipe.names.items():
        arm, writer = label.partition("[")[0], _writer(learnt_from(spec))
        if writer is None:
            continue
        if arm == "strong":
            roles.setdefault(writer.digest, "teacher")
        elif arm == "half":
            roles |= _assistant(writer)
        elif arm == "micota" and not isinstance(writer, Source | Train):
            roles[writer.digest] = "ta_mid"
            tuned = (
                writer.target.of if isinstance(writer, LengthDial) else next(iter(getattr(writer, "models", ())), None)
            )
            roles |= _assistant(tuned) if tuned else {}
    return roles


def taught_roles(recipe: Recipe) -> dict[str, str]:
    """The role of each data set by its digest: that of the arm that learns from it."""
    roles: dict[str, str] = {}
    for label, spec in recipe.names.items():
        arm = arm_of(label.partition("[")[0])
        if arm in ROLES and (data := learnt_from(spec)):
            roles.setdefault(data.digest, arm)
    return roles


def _writer(learnt: Data | None) -> Spec | None:
    """The model that wrote what an arm learns; of a mixture none."""
    return learnt.completions.model if isinstance(learnt, Select | RejectionSampling) else None


def _assistant(tuned: Spec) -> dict[str, str]:
    """The assistant after fine-tuning, and before it."""
    before = {tuned.base.digest: "ta"} if isinstance(tuned, Train) else {}
    return before | {tuned.digest: "ta_long"}
