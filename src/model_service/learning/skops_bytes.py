"""The same fitted pipeline as the same skops bytes: without memory addresses and times of day in them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

_SCHEMA = "schema.json"
TRUSTED = ("numpy.dtype",)
"""Types in our files beside those that skops itself trusts; any other raises instead of being built."""
TRUSTED_TREES = (*TRUSTED, "sklearn.tree._tree.Tree")
"""The same with trees, whose node numbers are followed without a look at their bounds: only for a file whose hash was
checked, and only in a child."""


def canonical_skops(content: bytes) -> bytes:
    """`content` of `skops.io.dumps` with objects numbered in order of appearance and members dated 1980.

    skops names objects, and the members that hold their arrays, by their address in memory; only equality of the names
    has a meaning, so any numbering reads back as the same model.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        members = {name: source.read(name) for name in source.namelist() if name != _SCHEMA}
        schema = json.loads(source.read(_SCHEMA))
    numbers: dict[str, int] = {}
    _number_objects(schema, numbers)
    renamed = {_renamed(name, numbers): data for name, data in members.items()}
    renamed[_SCHEMA] = json.dumps(_relabelled(schema, numbers), indent=1).encode()
    return _zipped(renamed)


def read_skops(content: bytes, trusted: Sequence[str] = TRUSTED) -> Any:
    """The object in a skops file. Raises ValueError when it cannot be read or holds a type that is not trusted."""
    # Imported here: whoever only asks for bytes to be put in order has scikit-learn loaded, or does not need it.
    import skops.io

    try:
        return skops.io.loads(content, trusted=list(trusted))
    except Exception as error:  # a damaged zip, schema or array raises almost anything
        raise ValueError(f"not a readable skops file: {type(error).__name__}") from error


def _number_objects(node: Any, numbers: dict[str, int]) -> None:
    if isinstance(node, dict):
        if "__id__" in node:
            numbers.setdefault(str(node["__id__"]), len(numbers) + 1)
        for child in node.values():
            _number_objects(child, numbers)
    elif isinstance(node, list):
        for child in node:
            _number_objects(child, numbers)


def _relabelled(node: Any, numbers: dict[str, int]) -> Any:
    if isinstance(node, list):
        return [_relabelled(child, numbers) for child in node]
    if not isinstance(node, dict):
        return node
    copy = {key: _relabelled(child, numbers) for key, child in node.items()}
    if "__id__" in node:
        copy["__id__"] = numbers[str(node["__id__"])]
    if isinstance(node.get("file"), str):
        copy["file"] = _renamed(node["file"], numbers)
    return copy


def _renamed(member: str, numbers: dict[str, int]) -> str:
    path = PurePosixPath(member)
    return f"{numbers[path.stem]}{path.suffix}" if path.stem in numbers else member


def _zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in sorted(members):
            target.writestr(zipfile.ZipInfo(name), members[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
