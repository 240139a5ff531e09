"""What one model reads: features that it chooses by name from a vector, turned to a side, and the side itself."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

SIDE = "side"


class UnknownFeatures(ValueError):  # noqa: N818 - it names the state of the model
    """A model reads features that are not in the vector, or whose direction nobody knows."""


class ModelInputs:
    """The inputs of one model, in its own order: `features`, then `side`.

    A model that was trained on fewer features than a vector holds today, or on the same in another order, goes on
    reading its own. Where each of them stands is looked up once, so that a row costs the same whatever the order.

    Args:
        features: names in the model's order.
        directional: those among them that a sell sees negated.
        vector: names of all that a vector holds, in its order.

    Raises:
        UnknownFeatures: the vector lacks some of them; the message names those.
        ValueError: a name stands twice, or a directional one is not among the features.
    """

    def __init__(self, features: Sequence[str], directional: Collection[str], vector: Sequence[str]) -> None:
        self.features = tuple(features)
        self.directional = frozenset(directional)
        self.names = (*self.features, SIDE)
        self._width = len(vector)
        self._places = _places(self.features, vector)
        _check_names(self.features, self.directional)
        turned = self.directional | {SIDE}
        self._if_sold = np.array([-1.0 if name in turned else 1.0 for name in self.names], dtype=np.float32)
        self._both = np.stack([np.ones_like(self._if_sold), self._if_sold])

    @property
    def feature_set(self) -> str:
        """The name of these features, in this order and with these directions."""
        return feature_set_name(self.features, self.directional)

    def rows(self, vectors: Vector, side_signs: NDArray[np.generic], out: Vector | None = None) -> Vector:
        """Rows as the model takes them: directional columns times the row's sign, and `side` itself as the last column.

        Args:
            vectors: unaligned, shape (n, F).
            side_signs: +1 for buy, -1 for sell, shape (n,).
            out: where to write them, float32 as returned; a new array by default.

        Returns:
            float32, shape (n, len(names)).

        Raises:
            ValueError: a shape does not fit, or a sign is neither +1 nor -1.
        """
        signs = np.asarray(side_signs, dtype=np.float32)
        self._check_rows(vectors, signs)
        aligned = np.empty((len(vectors), len(self.names)), dtype=np.float32) if out is None else out
        # No place is out of range; with any mode but the default one `take` writes straight into `aligned`.
        vectors.take(self._places, axis=1, out=aligned[:, :-1], mode="clip")
        aligned[:, -1] = 1.0
        np.multiply(aligned, self._if_sold, out=aligned, where=(signs < 0.0)[:, None])
        return aligned

    def both_sides(self, vector: Vector) -> Vector:
        """The two rows of one decision, buy then sell: as `rows` makes them of the vector given twice, but cheaper.

        Args:
            vector: unaligned, shape (F,).

        Returns:
            float32, shape (2, len(names)).

        Raises:
            ValueError: the shape does not fit.
        """
        if vector.shape != (self._width,):
            raise ValueError(f"features {vector.shape} given; the shape must be ({self._width},)")
        aligned = self._both.copy()
        aligned[:, :-1] *= vector.take(self._places)
        return aligned

    def _check_rows(self, vectors: Vector, signs: NDArray[np.float32]) -> None:
        if vectors.ndim != 2 or vectors.shape[1] != self._width or signs.shape != (len(vectors),):
            given = f"features {vectors.shape} and side signs {signs.shape}"
            raise ValueError(f"{given} given; the shapes must be (n, {self._width}) and (n,)")
        if not (np.abs(signs) == 1.0).all():
            raise ValueError("a side sign is neither +1 (buy) nor -1 (sell)")


def feature_set_name(features: Sequence[str], directional: Collection[str]) -> str:
    """The name of a list of features: another order, name or direction gives another one."""
    lines = "\n".join(f"{name} {'directional' if name in directional else 'symmetric'}" for name in features)
    return f"f1-{hashlib.sha256(lines.encode()).hexdigest()[:8]}"


def _places(features: Sequence[str], vector: Sequence[str]) -> NDArray[np.intp]:
    known = {name: place for place, name in enumerate(vector)}
    unknown = [name for name in features if name not in known]
    if unknown:
        raise UnknownFeatures(f"this program does not compute {', '.join(unknown)}")
    return np.array([known[name] for name in features], dtype=np.intp)


def _check_names(features: tuple[str, ...], directional: frozenset[str]) -> None:
    if len({*features, SIDE}) != len(features) + 1:
        raise ValueError(f"a name stands twice in {[*features, SIDE]}")
    if not directional.issubset(features):
        raise ValueError(f"directional names {sorted(directional.difference(features))} are no features of the model")
