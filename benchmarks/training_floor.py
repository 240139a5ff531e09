"""The least that a training run can cost: a bare read of its rows and a bare `xgboost.train`, in such a process.

Reads what to do as JSON from standard input and writes one line of JSON with the seconds of both. What libraries and
the matrix cost before they can be used is not counted.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from model_service.child import prepare_imports, settle_in

COLUMNS = (
    "signal_id, decided_us, exit_us, side, label, exit_rule, asset_code, is_warmup, intent = 'reduce', net_return, "
    "probability_buy, probability_sell, probability_none, opposite_net_return, features"
)
"""What a run needs of each row."""


def main() -> None:
    """Run it."""
    lines = settle_in([])
    job = json.load(sys.stdin)
    prepare_imports("xgboost", job["threads"])
    import uvloop

    read_seconds = uvloop.run(_read(job["database"], job["strategy_id"], job["rows"]))
    fit_seconds = _fit(job)
    lines.write(json.dumps({"read_seconds": read_seconds, "fit_seconds": fit_seconds}) + "\n")
    lines.flush()


async def _read(place: dict[str, Any], strategy_id: str, rows: int) -> float:
    """The bytes of all rows into memory, as the driver hands them over."""
    import asyncpg

    content = bytearray()

    async def keep(part: bytes) -> None:
        content.extend(part)

    started = time.perf_counter()
    connection = await asyncpg.connect(**place)
    query = f"SELECT {COLUMNS} FROM model_service.samples WHERE strategy_id = $1"
    await connection.copy_from_query(query, strategy_id, output=keep, format="binary", timeout=600)
    seconds = time.perf_counter() - started
    connection.terminate()
    assert len(content) > rows * 160, "all rows came"
    return seconds


def _fit(job: dict[str, Any]) -> float:
    """The rounds on the same matrix, which XGBoost sorts into bins by itself."""
    import numpy as np
    import xgboost

    block = np.load(job["matrix"])
    labels, weights = block["labels"], block["weights"]
    matrix = xgboost.DMatrix(block["inputs"], label=labels, weight=weights, nthread=job["threads"])
    started = time.perf_counter()
    xgboost.train(job["parameters"], matrix, job["rounds"], verbose_eval=False)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
