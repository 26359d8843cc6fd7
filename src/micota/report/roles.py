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
TOKENS = "_tokens"  # the role `strong_tokens` is `strong`, matched in target tokens instead of steps


def role_of(recipe: Recipe, label: str) -> str:
    """The paper's arm that one with this label is, as the recipe says, whatever is matched; "" for none."""
    return recipe.roles.get(label.partition("[")[0], "").removesuffix(TOKENS)


def title_of(recipe: Recipe, word: str) -> str:
    """What an arm is called in tables and figures."""
    return recipe.titles.get(word) or ROLES.get(role_of(recipe, word), word)


def procedure_roles(recipe: Recipe) -> dict[str, str]:
    """The roles of teacher and assistants by the digests of their models, read off what the arms learn from."""
    roles: dict[str, str] = {}
    for label, spec in recipe.names.items():
        arm, writer = role_of(recipe, label), _writer(learnt_from(spec))
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


def taught(recipe: Recipe) -> dict[str, str]:
    """By the digest of each data set that an arm learns from, the word of that arm: of several the first."""
    arms: dict[str, str] = {}
    for label, spec in recipe.arms.items():
        if data := learnt_from(spec):
            arms.setdefault(data.digest, label.partition("[")[0])
    return arms


def _writer(learnt: Data | None) -> Spec | None:
    """The model that wrote what an arm learns; of a mixture none."""
    return learnt.completions.model if isinstance(learnt, Select | RejectionSampling) else None


def _assistant(tuned: Spec) -> dict[str, str]:
    """The assistant after fine-tuning, and before it."""
    before = {tuned.base.digest: "ta"} if isinstance(tuned, Train) else {}
    return before | {tuned.digest: "ta_long"}
