"""The largest numbers that a parameter may have, so that what follows from it can be stored and computed with."""

from __future__ import annotations

LARGEST_INTEGER = 2**31 - 1
"""Of PostgreSQL's type integer."""
LARGEST_AMOUNT = 10**12
"""Quote currency; far below what a float64 holds to the cent."""
LONGEST_HOURS = 876_000.0
"""A hundred years: a time so far away can still be written down."""
