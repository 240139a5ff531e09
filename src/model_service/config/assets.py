"""Names of assets: what order-manager accepts (4 to 20 letters and digits), and where else they may come from."""

from __future__ import annotations

from collections.abc import Sequence

ACCOUNT_BALANCES = "account_balances"
"""In the place of names: every coin that the platform's table of that name holds, against the quote currency."""
ASSETS_ALLOWED = "allowed: different assets of 4 to 20 letters and digits, such as BTCUSDT, or account_balances"


def is_asset(name: str) -> bool:
    """Whether order-manager takes a signal of it (CONTRACTS 1.1).

    Example:
        >>> is_asset("BTCUSDT"), is_asset("BTC/USDT"), is_asset("BTC")
        (True, False, False)
    """
    return name.isascii() and name.isalnum() and 4 <= len(name) <= 20


def names_balances(names: Sequence[str]) -> bool:
    """Whether the assets are those of account_balances, in whatever case that is written."""
    return len(names) == 1 and names[0].lower() == ACCOUNT_BALANCES


def checked_assets(names: Sequence[str]) -> tuple[str, ...]:
    """The names in capital letters. Raises ValueError for one that cannot be traded, or that stands there twice."""
    wrong = [name for name in names if not is_asset(name)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no asset; {ASSETS_ALLOWED}")
    assets = tuple(name.upper() for name in names)
    if len(set(assets)) != len(assets):
        raise ValueError(f"an asset stands there twice; {ASSETS_ALLOWED}")
    return assets
