"""A boosted ensemble of binary logistic trees as an ONNX graph, straight from XGBoost's own JSON.

The general converters load scikit-learn, scipy and pandas first, about four seconds in a training child; a tree
ensemble of one family needs none of that.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from model_service.models.artifact import INPUT_NAME, OUTPUT_NAME

OPSET = 17
ML_OPSET = 3
IR_VERSION = 8


def booster_to_onnx(model_json: bytes, inputs: int) -> bytes:
    """The serving graph of a booster; the same booster gives the same bytes.

    Args:
        model_json: `Booster.save_raw("json")` of a `binary:logistic` booster without categorical splits or dart.
        inputs: width of a row.

    Returns:
        A graph with input `features` float32 (n, inputs), and outputs `label` int64 (n,), `probabilities` (n, 2).
    """
    learner = json.loads(model_json)["learner"]
    trees = learner["gradient_booster"]["model"]["trees"]
    node = helper.make_node(
        "TreeEnsembleClassifier",
        [INPUT_NAME],
        ["label", OUTPUT_NAME],
        name="trees",
        domain="ai.onnx.ml",
        **_attributes(trees, _base_margin(learner["learner_model_param"]["base_score"])),
    )
    return _model(node, inputs)


def _model(node: Any, inputs: int) -> bytes:
    graph = helper.make_graph(
        [node],
        "model",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [None, inputs])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [None, 2]),
        ],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="model-service", ir_version=IR_VERSION)
    return bytes(model.SerializeToString(deterministic=True))


def _attributes(trees: list[dict[str, Any]], base_margin: float) -> dict[str, Any]:
    columns = [_tree_columns(number, tree) for number, tree in enumerate(trees)]
    joined = {name: [value for column in columns for value in column[name]] for name in columns[0]}
    return {
        **joined,
        "class_ids": [0] * len(joined["class_weights"]),
        "classlabels_int64s": [0, 1],
        "base_values": [base_margin],
        "post_transform": "LOGISTIC",
    }


def _tree_columns(number: int, tree: dict[str, Any]) -> dict[str, list[Any]]:
    """One tree's nodes and leaves. XGBoost goes left when value < split, and when unknown if `default_left`."""
    lefts, rights = tree["left_children"], tree["right_children"]
    count = len(lefts)
    leaves = [node for node in range(count) if lefts[node] < 0]
    return {
        "nodes_treeids": [number] * count,
        "nodes_nodeids": list(range(count)),
        "nodes_featureids": [int(index) for index in tree["split_indices"]],
        "nodes_modes": ["LEAF" if left < 0 else "BRANCH_LT" for left in lefts],
        "nodes_values": [0.0 if lefts[node] < 0 else float(tree["split_conditions"][node]) for node in range(count)],
        "nodes_truenodeids": [max(left, 0) for left in lefts],
        "nodes_falsenodeids": [max(right, 0) for right in rights],
        "nodes_missing_value_tracks_true": [int(value) for value in tree["default_left"]],
        "class_treeids": [number] * len(leaves),
        "class_nodeids": leaves,
        "class_weights": [float(tree["split_conditions"][node]) for node in leaves],
    }


def _base_margin(base_score: str) -> float:
    """Log-odds of the global bias, which newer XGBoost writes as `[5E-1]` and older as `5E-1`."""
    share = float(np.float32(base_score.strip("[]").split(",")[0]))
    return math.log(share / (1.0 - share))
