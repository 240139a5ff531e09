"""Why the data do not allow a model: a result, not an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)  # not frozen: Python itself sets the traceback of an exception
class Refused(Exception):  # noqa: N818 - a refusal is a result of a run
    """No model can be made from these rows.

    Attributes:
        code: a stable word: `too_few_rows`, `one_class`, `span_too_short`, `block_too_small`, `no_new_data`,
            `increment_unsupported`, `increment_round_cap`, `parent_incompatible`, `parent_damaged`, `unknown_feature`.
        hint: what was found, what is needed and what to do, in one or two sentences.
        report: what is known of the dataset.
    """

    code: str
    hint: str
    report: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.hint}"


@dataclass(eq=False)
class RunBroken(Exception):  # noqa: N818 - the state of the world, not a programming error
    """The run cannot go on, for a known reason outside the rows.

    Attributes:
        code: a stable word.
        hint: what was found and what to do, in one or two sentences.
    """

    code: str
    hint: str

    def __str__(self) -> str:
        return f"{self.code}: {self.hint}"
