"""What a recipe will cost: tokens, floating-point operations, accelerator-hours, memory, disk and money, by formulas.

Nothing here needs a network or an accelerator. What the store has measured takes the place of what is assumed.
"""
