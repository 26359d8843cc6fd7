r"""Golds written otherwise with the same meaning, and golds changed a little so that the meaning is another.

Both work on the text of a gold by simple surgery of their own and know nothing of the scorer's reading.
Each returns None where it does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from random import Random

Change = Callable[[str, Random], "str | None"]
_INTEGER = re.compile(r"-?\d+")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_WORDS = re.compile(r"\\(?:text|mbox|textnormal|textbf)|[a-zA-Z]{4,}(?<!frac)(?<!sqrt)")
_INTERVAL = re.compile(r"([(\[])([^()\[\],]+),([^()\[\],]+)([)\]])")


def bare(gold: str) -> str:
    """The gold without dollar signs, a trailing full stop, and the size commands of brackets."""
    text = gold.strip().rstrip(".").strip("$")
    for layout in ("\\left", "\\right", "\\,", "\\;"):
        text = text.replace(layout, "")
    return text.strip()


def parts(text: str) -> list[str]:
    """What stands between the commas outside all brackets."""
    found, depth, start = list[str](), 0, 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            found.append(text[start:at].strip())
            start = at + 1
    return [*found, text[start:].strip()]


def is_list(text: str) -> bool:
    return (
        len(parts(text)) > 1
        and not re.search(r"\\!|\{,\}|\\text|\\mbox|=|where|\$|:|\.\.\.|dots", text)
        and not re.fullmatch(r"\\?\$?\d{1,3}(,\d{3})+(\.\d+)?", text)
        and all(part.count("(") + part.count("[") == part.count(")") + part.count("]") for part in parts(text))
    )


def is_value(text: str) -> bool:
    """One number or expression: no list, relation, bracket pair, unit or word."""
    return bool(text) and not re.search(
        r"[=<>,:$_;]|\\(?:le|ge|ne|in|cup|pm|text|mbox|begin|%|\{)|[a-zA-Z]{4,}(?<!frac)(?<!sqrt)", text
    )


# ---- the same meaning


def other_fraction_command(gold: str, random: Random) -> str | None:
    return (
        re.sub(r"\\[dtc]?frac", lambda _: random.choice([r"\dfrac", r"\tfrac", r"\frac"]), gold)
        if "frac" in gold
        else None
    )


def shuffled(gold: str, random: Random) -> str | None:
    text = bare(gold)
    if not is_list(text):
        return None
    order = parts(text)
    random.shuffle(order)
    return random.choice([", ", ",", r", \ ", r" \text{ and } "]).join(order)


def as_set(gold: str, random: Random) -> str | None:
    text = bare(gold)
    whole = is_list(text) and len(set(parts(text))) == len(parts(text)) and not re.search(r"[(\[]", text)
    return r"\{" + text + r"\}" if whole else None


def as_quotient(gold: str, random: Random) -> str | None:
    match = _FRACTION.fullmatch(bare(gold))
    return f"{match[1]}{match[2]}/{match[3]}" if match else None


def as_decimal(gold: str, random: Random) -> str | None:
    match = _FRACTION.fullmatch(bare(gold))
    if match is None or not int(match[3]):
        return None
    value = Fraction(int(match[2]), int(match[3]))
    if 10**6 % value.denominator:
        return None
    digits = f"{int(value * 10**6):07d}"
    return match[1] + (digits[:-6] + "." + digits[-6:]).rstrip("0").rstrip(".")


def unreduced(gold: str, random: Random) -> str | None:
    match = _FRACTION.fullmatch(bare(gold))
    factor = random.randint(2, 9)
    return rf"{match[1]}\frac{{{int(match[2]) * factor}}}{{{int(match[3]) * factor}}}" if match else None


def as_integer_otherwise(gold: str, random: Random) -> str | None:
    text = bare(gold)
    if not _INTEGER.fullmatch(text):
        return None
    sign, digits = ("-", text[1:]) if text[0] == "-" else ("", text)
    factor = random.randint(2, 9)
    grouped = f"{int(digits):,}"
    return sign + random.choice(
        [
            f"{digits}.0", f"{digits}.00", f"0{digits}", grouped, grouped.replace(",", r",\!"),
            grouped.replace(",", "{,}"), f"{digits}/1", rf"\frac{{{int(digits) * factor}}}{{{factor}}}",
        ]
    )  # fmt: skip


def named(gold: str, random: Random) -> str | None:
    text = bare(gold)
    letters = [letter for letter in "xnkt" if letter not in text]
    return f"{random.choice(letters)} = {text}" if is_value(text) and letters else None


def unnamed(gold: str, random: Random) -> str | None:
    match = re.fullmatch(r"[a-zA-Z]\s*=\s*([^=]+)", bare(gold))
    return match[1] if match and is_value(match[1]) else None


def with_unit(gold: str, random: Random) -> str | None:
    units = [
        r"\text{ cm}",
        r"\text{ units}",
        r"\text{ apples}",
        r"\,\mathrm{km}",
        r"\text{ square feet}",
        " meters",
    ]
    text = bare(gold)
    plain = re.fullmatch(r"-?[\d.]+|-?\\[dt]?frac\{\d+\}\{\d+\}|\d+\\pi|\d*\\sqrt\{\d+\}", text)
    return text + random.choice(units) if plain else None


def with_sign_of_measure(gold: str, random: Random) -> str | None:
    text = bare(gold)
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        return None
    return random.choice([rf"\${text}", rf"{text}^\circ", rf"{text}^{{\circ}}", f"${text}$"])


def spaced(gold: str, random: Random) -> str | None:
    text = bare(gold)
    if _WORDS.search(text) and "\\" not in text:
        return None
    return re.sub(
        r"(?<=[\w)}\]])\s*([-+=])\s*(?=[\w(\\])",
        lambda m: random.choice([f" {m[1]} ", m[1], f" {m[1]}"]),
        text,
    )


def with_layout(gold: str, random: Random) -> str | None:
    text = bare(gold)
    return random.choice(
        [
            "${}$",
            r"\({}\)",
            r"\displaystyle {}",
            "{}.",
            " {} ",
            r"\,{}\,",
            "{{{}}}",
            r"\[{}\]",
            r"\boxed{{{}}}",
        ]
    ).format(text)


def with_sized_brackets(gold: str, random: Random) -> str | None:
    text = bare(gold)
    balanced = re.fullmatch(r"[(\[][^()\[\]]*[)\]]", text)
    return rf"\left{text[0]}{text[1:-1]}\right{text[-1]}" if balanced else None


def reordered_sum(gold: str, random: Random) -> str | None:
    text = bare(gold)
    if not is_value(text) or re.search(r"[()\[\]|{}^/]|\\(?!pi|sqrt)", text.replace("^2", "").replace("^3", "")):
        return None
    terms = re.findall(r"[-+]?[^-+]+", text.replace(" ", ""))
    if len(terms) < 2:
        return None
    random.shuffle(terms)
    joined = "".join(term if term[0] in "+-" else f"+{term}" for term in terms)
    return joined.removeprefix("+")


def with_plus_infinity(gold: str, random: Random) -> str | None:
    return gold.replace(r",\infty", r", +\infty") if r",\infty" in gold else None


def reordered_union(gold: str, random: Random) -> str | None:
    pieces = bare(gold).split(r"\cup")
    random.shuffle(pieces)
    return r" \cup ".join(piece.strip() for piece in pieces) if len(pieces) > 1 else None


def other_matrix(gold: str, random: Random) -> str | None:
    return gold.replace("pmatrix", "bmatrix") if "pmatrix" in gold else None


def explicit_product(gold: str, random: Random) -> str | None:
    text = re.sub(r"(?<=\d)\s*(?=\\(?:sqrt|pi))", lambda _: random.choice([r" \cdot ", r"\times ", " "]), gold)
    return text if text != gold else None


def percent_otherwise(gold: str, random: Random) -> str | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*\\?%", bare(gold))
    return (
        random.choice([match[1], f"{match[1]}%", rf"{match[1]}\text{{ percent}}", f"{match[1]}\\%"]) if match else None
    )


REWRITES: tuple[Change, ...] = (
    other_fraction_command, shuffled, as_set, as_quotient, as_decimal, unreduced, as_integer_otherwise, named,
    unnamed, with_unit, with_sign_of_measure, spaced, with_layout, with_sized_brackets, reordered_sum,
    with_plus_infinity, reordered_union, other_matrix, explicit_product, percent_otherwise,
)  # fmt: skip


# ---- another meaning


def another_number(gold: str, random: Random) -> str | None:
    """One number raised or lowered; not within a name, a unit, a base or a second statement of the value."""
    text = bare(gold)
    if re.search(r"approx|dots|_|\\(?:text|mbox)\{[^}]*\d", text):
        return None
    places = [m for m in re.finditer(r"(?<![\d.])\d+(?![\d.])", text) if not text[: m.start()].endswith(("}^", "}^{"))]
    if not places:
        return None
    match = random.choice(places)
    value = int(match[0])
    changed = random.choice([value + 1, value + 2, value * 10 + 3, value + 10])
    return f"{text[: match.start()]}{changed}{text[match.end() :]}"


def another_numeral(gold: str, random: Random) -> str | None:
    match = re.fullmatch(r"(\d+)_\{?(\d+)\}?", bare(gold))
    return f"{match[1]}{random.choice('01')}_{{{match[2]}}}" if match else None


def flipped_sign(gold: str, random: Random) -> str | None:
    text = bare(gold)
    if not is_value(text) or not re.search(r"[1-9a-zA-Z]", text):
        return None
    return text[1:] if re.fullmatch(r"-[^-+]*", text) else f"-({text})"


def flipped_element(gold: str, random: Random) -> str | None:
    text = bare(gold)
    match = re.fullmatch(r"\(([^()\[\]]+)\)", text)
    inner = match[1] if match else text
    items = parts(inner)
    if not (match or is_list(text)) or len(items) < 2 or not all(map(is_value, items)):
        return None
    at = random.randrange(len(items))
    if not re.search(r"[1-9a-zA-Z]", items[at]):
        return None
    flipped = items[at][1:] if re.fullmatch(r"-[^-+]*", items[at]) else f"-({items[at]})"
    changed = ", ".join([*items[:at], flipped, *items[at + 1 :]])
    return f"({changed})" if match else changed


def dropped_element(gold: str, random: Random) -> str | None:
    text = bare(gold)
    match = re.fullmatch(r"\(([^()\[\]]+)\)|\\\{([^{}]+)\\\}", text)
    inner = (match[1] or match[2]) if match else text
    items = parts(inner)
    if not (match or is_list(text)) or len(items) < 2:
        return None
    del items[random.randrange(len(items))]
    kept = ", ".join(items)
    return kept if match is None else rf"\{{{kept}\}}" if match[2] else f"({kept})"


def dropped_interval(gold: str, random: Random) -> str | None:
    pieces = bare(gold).split(r"\cup")
    if len(pieces) < 2:
        return None
    del pieces[random.randrange(len(pieces))]
    return r"\cup".join(pieces)


def other_end(gold: str, random: Random) -> str | None:
    """One end of an interval opened or closed; ends at infinity are left alone."""
    text = bare(gold)
    found = [m for m in _INTERVAL.finditer(text) if "cup" in text or {m[1], m[4]} != {"(", ")"} or "infty" in m[0]]
    if not found or is_list(text) or re.search(r"\\(?:frac|sqrt|log)\s*[(\[]", text):
        return None
    match = random.choice(found)
    ends = [at for at, end in ((1, match[2]), (4, match[3])) if "infty" not in end]
    if not ends:
        return None
    at = match.start(random.choice(ends))
    return text[:at] + {"(": "[", "[": "(", ")": "]", "]": ")"}[text[at]] + text[at + 1 :]


def another_word(gold: str, random: Random) -> str | None:
    match = re.fullmatch(r"\\text\{\(?([A-Za-z]+)\)?\}", bare(gold))
    if match is None:
        return None
    others = [
        word for word in ("A", "B", "C", "D", "odd", "even", "Monday", "circle") if word.lower() != match[1].lower()
    ]
    return rf"\text{{{random.choice(others)}}}"


PERTURBATIONS: tuple[Change, ...] = (
    another_number, another_numeral, flipped_sign, flipped_element, dropped_element, dropped_interval, other_end,
    another_word,
)  # fmt: skip


def changes(golds: list[str], among: tuple[Change, ...], count: int, seed: int) -> list[tuple[str, str, str]]:
    """`count` triples (gold, changed, name of the change), drawn evenly over the kinds of change."""
    random = Random(seed)
    drawn: list[tuple[str, str, str]] = []
    able = [(change, [gold for gold in golds if change(gold, random) is not None]) for change in among]
    able = [(change, those) for change, those in able if those]
    while len(drawn) < count:
        change, those = random.choice(able)
        gold = random.choice(those)
        changed = change(gold, random)
        if changed is not None and changed != gold:
            drawn.append((gold, changed, change.__name__))
    return drawn
