"""The platform's table `account_balances`: append-only, read, never written (CONTRACTS 3.8)."""

from __future__ import annotations

from model_service.database.shared_schema import SharedSchema, SharedUse

# The gateway writes a row when a balance moves, so the newest row of a coin holds however old it is. Of several of the
# same moment the largest balance counts: to go on watching a coin costs less than to let go of it by mistake.
BALANCES = SharedUse(
    "the assets of strategies that trade what the account holds",
    "account_balances",
    ("coin", "wallet_balance", "received_at"),
    """
    SELECT coin FROM (
        SELECT DISTINCT ON (upper(coin)) upper(coin) AS coin, wallet_balance FROM {schema}.account_balances
        WHERE $1 AND coin IS NOT NULL AND wallet_balance IS NOT NULL AND received_at IS NOT NULL
        ORDER BY upper(coin), received_at DESC, wallet_balance DESC
    ) AS newest
    WHERE wallet_balance > 0 ORDER BY coin
    """,
    (False,),
)


class AccountBalances:
    """What the account holds, as far as the table can be read; `schema` has BALANCES as its only use."""

    def __init__(self, schema: SharedSchema) -> None:
        self._schema = schema

    @property
    def notices(self) -> tuple[str, ...]:
        """Why the table cannot be read; empty when it can."""
        return self._schema.notices

    async def held(self) -> list[str] | None:
        """Coins with a positive wallet balance, in capital letters and in order; None where that cannot be read.

        Raises DatabaseUnavailable.
        """
        await self._schema.check()
        rows = await self._schema.rows(BALANCES, True)
        return None if rows is None else [row["coin"] for row in rows]
