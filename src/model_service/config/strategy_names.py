"""What a strategy may be called: a name goes into tables, paths of the HTTP interface, commands and folders."""

from __future__ import annotations

import re

NAME_ALLOWED = "1 to 100 letters (a to z, A to Z), digits, _, - and ., the first a letter, a digit or _"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)


def is_strategy_name(name: str) -> bool:
    """Whether a strategy may have that name.

    Example:
        >>> [is_strategy_name(name) for name in ("momentum_v1", "a.b-c", "a/b", "..", "")]
        [True, True, False, False, False]
    """
    return _NAME.fullmatch(name) is not None
