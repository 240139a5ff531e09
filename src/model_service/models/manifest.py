"""What a version's manifest says of its inputs, written and read.

Format 1 names the inputs but not which of them are directional. Format 2 does, so that a model keeps its own directions
whatever is declared later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_service.models.features import DIRECTIONAL_NAMES, FEATURE_NAMES, FEATURE_SET
from model_service.models.inputs import SIDE, ModelInputs, UnknownFeatures

FORMAT = 2


def describe_inputs(inputs: ModelInputs) -> dict[str, Any]:
    """The entries of a manifest that `read_inputs` reads.

    >>> from model_service.models.features import TODAY
    >>> read_inputs(describe_inputs(TODAY)).names == TODAY.names
    True
    """
    return {
        "format": FORMAT,
        "feature_set": inputs.feature_set,
        "model_inputs": list(inputs.names),
        "directional": [name for name in inputs.features if name in inputs.directional],
    }


def read_inputs(manifest: Mapping[str, Any]) -> ModelInputs:
    """The inputs that a manifest declares, as places in today's vector.

    Raises:
        UnknownFeatures: this program does not compute one of them, or nobody knows their directions.
        KeyError, TypeError, ValueError: the entries are missing or of another kind.
    """
    names = list(manifest["model_inputs"])
    if not all(isinstance(name, str) for name in names) or names[-1:] != [SIDE]:
        raise ValueError(f"model_inputs must be names, the last of them {SIDE!r}, not {names!r}")
    features = names[:-1]
    if "directional" in manifest:
        return ModelInputs(features, list(manifest["directional"]), FEATURE_NAMES)
    return _of_format_1(features, str(manifest["feature_set"]))


def _of_format_1(features: list[str], feature_set: str) -> ModelInputs:
    # A set's name comes from names and directions, so today's directions are the model's exactly if they give its name.
    inputs = ModelInputs(features, DIRECTIONAL_NAMES.intersection(features), FEATURE_NAMES)
    if inputs.feature_set != feature_set:
        raise UnknownFeatures(f"nothing says which features of {feature_set} were directional; {FEATURE_SET} differs")
    return inputs
