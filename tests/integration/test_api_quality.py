"""What the HTTP interface and the terminal say of live quality."""

from __future__ import annotations

import io
import math
from datetime import timedelta
from typing import Any

from rich.console import Console

from model_service.cli import quality_page, version_page
from model_service.database.connection import Database
from model_service.models.degradation import Reading, Reference
from model_service.models.drift import DriftReport, FeatureDrift
from model_service.models.job import Metric
from model_service.services.live_state import LiveQuality
from tests.support.api import NOW, FakeLive, client_of, make_app
from tests.support.api_rows import add_metric, add_strategy, add_version, insert

QUALITY = LiveQuality(
    strategy_id="momentum",
    version="v3",
    since=NOW - timedelta(hours=30),
    outcomes=740,
    n=412,
    window_outcomes=200,
    window_from=NOW - timedelta(hours=24),
    window_to=NOW,
    metrics=[
        Metric(
            name="accuracy",
            value=0.71,
            type="classification",
            lower=0.63,
            upper=0.79,
            level=0.9,
            method="by time",
        ),
        Metric(name="ece_floor", value=0.03, type="classification"),
    ],
    detectors=[
        Reading("live_accuracy", 0.82, 0.75, "below", fired=False),
        Reading("log_loss", None, None, "above", fired=False, why="the test gives no bound of it"),
        Reading("win_rate_cusum", 12.1, 11.5, "above", fired=True),
    ],
    reference=Reference(0.8, 0.44, 0.5, math.inf),
)
DRIFT = DriftReport("v3", NOW, 900, [FeatureDrift("spread_percent", 0.31, 0.2, 0.0, 0.01)])


async def answer(database: Database, live: FakeLive) -> dict[str, Any]:
    async with client_of(make_app(database, live=live)) as client:
        response = await client.get("/api/v1/strategies/momentum/quality")
        assert response.status_code == 200, response.text
        return dict(response.json())


def printed(*parts: Any) -> str:
    text = io.StringIO()
    console = Console(file=text, width=120)
    for part in parts:
        console.print(part)
    return text.getvalue()


async def test_all_that_is_known_is_shown_with_window_threshold_and_drift(database: Database) -> None:
    await add_strategy(database, mode="model")
    await insert(
        database, "activations", strategy_id="momentum", version=None, previous_version="v2", actor="service",
        reason="quality_degraded", forced=False, activated_at=NOW, evidence={"fired": ["log_loss"]},
    )  # fmt: skip
    found = await answer(database, FakeLive(QUALITY, DRIFT))
    assert (found["version"], found["outcomes"]) == ("v3", 740)
    assert found["window"] == {
        "n": 412, "outcomes": 200, "hours": 24.0, "first_available_at": "2026-11-22T15:52:43Z",
        "last_available_at": "2026-11-23T15:52:43Z",
    }  # fmt: skip
    assert found["metrics"][0]["lower"] == 0.63
    assert found["detectors"][2] == {
        "detector": "win_rate_cusum", "value": 12.1, "threshold": 11.5, "comparison": "above", "fired": True, "why": "",
    }  # fmt: skip
    assert found["test"]["log_loss_upper"] is None, "what is not finite is no JSON"
    assert found["drift"]["features"][0]["psi"] == 0.31
    assert found["last_fallback"]["version"] == "v2"
    text = printed(*quality_page.page(found))
    for part in ("v3 speaks", "412 outcomes", "0.630 .. 0.790", "FIRED", "above 11.5", "spread_percent", "v2 gave way"):
        assert part in text


async def test_while_no_model_speaks_nothing_is_claimed(database: Database) -> None:
    await add_strategy(database)
    found = await answer(database, FakeLive())
    assert (found["version"], found["window"], found["metrics"], found["drift"]) == (None, None, [], None)
    assert "no model speaks" in printed(*quality_page.page(found))


async def test_an_unknown_strategy_is_not_found(database: Database) -> None:
    async with client_of(make_app(database)) as client:
        assert (await client.get("/api/v1/strategies/momentum/quality")).status_code == 404


async def test_a_versions_live_numbers_say_their_window_n_and_interval(database: Database) -> None:
    await add_version(database, "v3")
    about = {
        "window": 200,
        "window_hours": 24.0,
        "lower": 0.63,
        "upper": 0.79,
        "level": 0.9,
        "method": "blocks of time",
    }
    await add_metric(database, "v3", "accuracy", 0.71, of="live", evaluation_dataset_size=412, metadata=about)
    async with client_of(make_app(database)) as client:
        version = (await client.get("/api/v1/models/v3")).json()
    text = printed(*version_page.metrics(version["quality_metrics"], {}))
    for part in ("412 outcomes", "the last 200, or 24 hours", "0.630 .. 0.790", "90 % by blocks of time"):
        assert part in text
