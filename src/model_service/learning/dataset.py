"""The rows of one training run, as arrays, with what was dropped and why (METHOD 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_service.learning.refusal import Refused
from model_service.learning.split import first_test_row
from model_service.models.features import FEATURE_NAMES, MODEL_INPUT_NAMES, align_to_side
from model_service.models.intervals import without_pauses
from model_service.models.samples import Rows, in_time_order

LEAST_SPAN_HORIZONS = 30
LARGEST_NET_RETURN = 10.0
"""1,000 % within a horizon: what is beyond was reported wrongly, and one such row would make any mean."""
NEVER_US = 2**63 - 1
_BLOCK_ROWS = 1 << 13


class Outlined(Protocol):
    """What the split, the weights and the refusals need of n rows in time order: a Dataset, or an Outline."""

    @property
    def decided_us(self) -> NDArray[np.int64]:
        """Decision times, (n,)."""

    @property
    def exit_us(self) -> NDArray[np.int64]:
        """Ends of the label intervals, (n,)."""

    @property
    def labels(self) -> NDArray[np.int8]:
        """0 or 1, (n,)."""

    @property
    def asset_codes(self) -> NDArray[np.int32]:
        """Whose path a row was judged on, (n,)."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Outline:
    """Rows without all that is wide: 21 bytes each, for datasets that do not fit into memory."""

    decided_us: NDArray[np.int64]
    exit_us: NDArray[np.int64]
    labels: NDArray[np.int8]
    asset_codes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def joined(cls, parts: Sequence[Outline]) -> Outline:
        """The rows of all parts, one after the other."""
        return cls(
            np.concatenate([np.empty(0, dtype=np.int64), *(part.decided_us for part in parts)]),
            np.concatenate([np.empty(0, dtype=np.int64), *(part.exit_us for part in parts)]),
            np.concatenate([np.empty(0, dtype=np.int8), *(part.labels for part in parts)]),
            np.concatenate([np.empty(0, dtype=np.int32), *(part.asset_codes for part in parts)]),
        )


@dataclass(frozen=True)
class Dataset:
    """n labelled signals ordered by decision time; a row's label interval is [decided_us, exit_us].

    Attributes:
        signal_ids: uint8 (n, 16), the bytes of the identifiers.
        decided_us, exit_us: int64 (n,), microseconds since 1970, UTC.
        side_signs: int8 (n,), +1 buy, -1 sell.
        labels: int8 (n,), 0 or 1.
        net_returns: float64 (n,), fractions of the entry notional.
        is_warmup, is_reduction: bool (n,).
        probability_buy, probability_sell, probability_none: float64 (n,), what the action was drawn from.
        exit_rules: int16 (n,), codes as stored.
        asset_codes: int32 (n,).
        opposite_net_returns: float64 (n,), what the other side would have earned on the same path at the same cost; NaN
            where no path is known.
        features: float32 (n, F), not aligned, NaN for unknown.
    """

    signal_ids: NDArray[np.uint8]
    decided_us: NDArray[np.int64]
    exit_us: NDArray[np.int64]
    side_signs: NDArray[np.int8]
    labels: NDArray[np.int8]
    net_returns: NDArray[np.float64]
    is_warmup: NDArray[np.bool_]
    is_reduction: NDArray[np.bool_]
    probability_buy: NDArray[np.float64]
    probability_sell: NDArray[np.float64]
    probability_none: NDArray[np.float64]
    exit_rules: NDArray[np.int16]
    asset_codes: NDArray[np.int32]
    opposite_net_returns: NDArray[np.float64]
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[Any] | slice) -> Dataset:
        """The rows of a mask, of indices in that order, or of a slice; neighbours are not copied."""
        rows = as_slice(rows)
        return Dataset(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence[Dataset]) -> Dataset:
        """The rows of one or more parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        )

    def inputs(self, rows: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """What a model reads of these rows, or of all: features aligned to the logged side, float32 (n, F + 1)."""
        if rows is None:
            rows = np.arange(len(self))
        aligned = np.empty((len(rows), len(MODEL_INPUT_NAMES)), dtype=np.float32)
        for start in range(0, len(rows), _BLOCK_ROWS):
            part = as_slice(rows[start : start + _BLOCK_ROWS])
            align_to_side(self.features[part], self.side_signs[part], aligned[start : start + _BLOCK_ROWS])
        return aligned

    def outline(self) -> Outline:
        """The same rows without what is wide; a copy, since a view would keep all the rest in memory."""
        return Outline(self.decided_us.copy(), self.exit_us.copy(), self.labels.copy(), self.asset_codes.copy())

    def fingerprint(self) -> str:
        """sha256 over ordered signal ids and label bytes, in hex (METHOD 10)."""
        digest = hashlib.sha256(np.ascontiguousarray(self.signal_ids).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


def as_slice(rows: NDArray[Any] | slice) -> NDArray[Any] | slice:
    """The slice that names the same rows where these are indices of neighbours in their order; else `rows` itself."""
    if isinstance(rows, slice) or rows.dtype == np.bool_ or not len(rows):
        return rows
    first, last = int(rows[0]), int(rows[-1])
    is_run = last - first == len(rows) - 1 and bool(np.all(rows[1:] - rows[:-1] == 1))
    return slice(first, last + 1) if is_run else rows


@dataclass(frozen=True)
class IdleDraws:
    """m stored draws that led to no trade, so r = 0: draws of `none`, and openings that never filled (METHOD 7).

    Attributes:
        decided_us: int64 (m,), microseconds since 1970, UTC, not falling.
        actions: int8 (m,), 0 for `none`, +1 for an unfilled buy, -1 for an unfilled sell.
        probability_buy, probability_sell, probability_none: float64 (m,), what the action was drawn from.
        sample_rates: float64 (m,) in (0, 1], the share q of such draws that is stored.
        features: float32 (m, F), not aligned, NaN for unknown.
    """

    decided_us: NDArray[np.int64]
    actions: NDArray[np.int8]
    probability_buy: NDArray[np.float64]
    probability_sell: NDArray[np.float64]
    probability_none: NDArray[np.float64]
    sample_rates: NDArray[np.float64]
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.decided_us)

    def between(self, start_us: int, end_us: int) -> IdleDraws:
        """Those decided in [start_us, end_us]."""
        return self.take((self.decided_us >= start_us) & (self.decided_us <= end_us))

    def take(self, rows: NDArray[Any]) -> IdleDraws:
        """The draws of a mask or of indices, in that order."""
        return IdleDraws(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def nothing(cls) -> IdleDraws:
        """No draws."""
        numbers = np.empty(0, dtype=np.float64)
        return cls(
            decided_us=np.empty(0, dtype=np.int64),
            actions=np.empty(0, dtype=np.int8),
            probability_buy=numbers,
            probability_sell=numbers,
            probability_none=numbers,
            sample_rates=numbers,
            features=np.empty((0, len(FEATURE_NAMES)), dtype=np.float32),
        )


def idle_draws_from_rows(rows: Rows) -> IdleDraws:
    """The draws in `rows`, a structured array (m,) as `database/idle_reader.py` makes it, in time order."""
    ordered = rows[np.argsort(rows["decided_us"], kind="stable")]
    return IdleDraws(
        decided_us=ordered["decided_us"].astype(np.int64, copy=False),
        actions=ordered["action"].astype(np.int8, copy=False),
        probability_buy=ordered["probability_buy"].astype(np.float64, copy=False),
        probability_sell=ordered["probability_sell"].astype(np.float64, copy=False),
        probability_none=ordered["probability_none"].astype(np.float64, copy=False),
        sample_rates=ordered["sample_rate"].astype(np.float64, copy=False),
        features=_known(ordered["features"]),
    )


def dataset_from_rows(rows: Rows, as_of_us: int = NEVER_US) -> tuple[Dataset, dict[str, int]]:
    """The dataset in `rows` and how many were dropped for which reason; a row counts for the first that applies.

    Args:
        rows: structured array (n,) with the columns of the table `samples`, as `database/sample_reader.py` makes it.
        as_of_us: what ends later is not known yet, whatever the row says.
    """
    wanted, dropped = np.ones(len(rows), dtype=bool), {}
    for reason, unusable in _unusable(rows, as_of_us).items():
        dropped[reason] = int(np.sum(wanted & unusable))
        wanted &= ~unusable
    return _dataset(in_time_order(rows if bool(np.all(wanted)) else rows[wanted])), dropped


def evaluation_span_us(rows: Rows, as_of_us: int = NEVER_US) -> tuple[int, int] | None:
    """First and last decision time of the last 20 % of what can be used of `rows`, microseconds; None without any.

    The test block of a full training or of an increment lies inside.
    """
    wanted = ~np.logical_or.reduce(list(_unusable(rows, as_of_us).values()))
    decided = np.sort(rows["decided_us"][wanted])
    return (int(decided[first_test_row(len(decided))]), int(decided[-1])) if len(decided) else None


def refuse_if_insufficient(dataset: Outlined, minimum_rows: int, horizon_us: int, report: Mapping[str, Any]) -> None:
    """Raises Refused with `too_few_rows`, `one_class` or `span_too_short`."""
    count, wins = len(dataset), int(np.sum(dataset.labels))
    if count < minimum_rows:
        raise Refused("too_few_rows", f"{count} outcomes are known, {minimum_rows} are needed; wait for more.", report)
    if wins in (0, count):
        only = "wins" if wins else "losses"
        raise Refused("one_class", f"all {count} outcomes are {only}; check barriers, fees and horizon.", report)
    span = int(without_pauses(dataset.decided_us, horizon_us)[-1]) / horizon_us
    if span < LEAST_SPAN_HORIZONS:
        hint = (
            f"the outcomes span {span:.1f} horizons, pauses counted as two, {LEAST_SPAN_HORIZONS} are needed; "
            "wait, or shorten the horizon."
        )
        raise Refused("span_too_short", hint, report)


def _unusable(rows: Rows, as_of_us: int) -> dict[str, NDArray[np.bool_]]:
    return {
        "net_return_not_finite": ~np.isfinite(rows["net_return"]),
        "net_return_implausible": np.abs(rows["net_return"]) > LARGEST_NET_RETURN,
        "interval_backwards": rows["exit_us"] <= rows["decided_us"],
        "label_in_the_future": rows["exit_us"] > as_of_us,
    }


def _dataset(rows: Rows) -> Dataset:
    """Views of `rows` wherever the types are native already, so that a million rows are in memory once."""
    return Dataset(
        signal_ids=rows["signal_id"],
        decided_us=rows["decided_us"].astype(np.int64, copy=False),
        exit_us=rows["exit_us"].astype(np.int64, copy=False),
        side_signs=rows["side"].astype(np.int8, copy=False),
        labels=rows["label"].astype(np.int8, copy=False),
        net_returns=rows["net_return"].astype(np.float64, copy=False),
        is_warmup=rows["is_warmup"].astype(np.bool_, copy=False),
        is_reduction=rows["is_reduction"].astype(np.bool_, copy=False),
        probability_buy=rows["probability_buy"].astype(np.float64, copy=False),
        probability_sell=rows["probability_sell"].astype(np.float64, copy=False),
        probability_none=rows["probability_none"].astype(np.float64, copy=False),
        exit_rules=rows["exit_rule"].astype(np.int16, copy=False),
        asset_codes=rows["asset_code"].astype(np.int32, copy=False),
        opposite_net_returns=rows["opposite_net_return"].astype(np.float64, copy=False),
        features=_known(rows["features"]),
    )


def _known(features: NDArray[Any]) -> NDArray[np.float32]:
    """Unknown is NaN, also where a row says infinite; a copy only if one does."""
    values: NDArray[np.float32] = np.asarray(features, dtype=np.float32)
    blocks = range(0, len(values), _BLOCK_ROWS)
    if any(bool(np.isinf(values[start : start + _BLOCK_ROWS]).any()) for start in blocks):
        values = np.where(np.isinf(values), np.float32(np.nan), values)
    return values
