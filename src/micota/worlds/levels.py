"""How much a step of a working says: its result, also how it was computed, or also a check by another route."""

TERSE, EXPANDED, CHECKED = 0, 1, 2
