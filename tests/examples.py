"""How many examples Hypothesis makes of a test: what it names, or a part of it in ``make test-fast``."""

from __future__ import annotations

from hypothesis import settings

HYPOTHESIS_OWN = 100
"""What a test has that names no number, unless the profile in use says another one."""
FEWEST = 10


def examples(number: int) -> settings:
    """So many, and as much fewer as the profile has fewer than Hypothesis' own."""
    return settings(max_examples=max(FEWEST, number * settings().max_examples // HYPOTHESIS_OWN))
