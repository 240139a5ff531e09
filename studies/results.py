"""Results kept in a file as they come, so that an interrupted study goes on where it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from studies.study import Result

ROOT = Path(__file__).parent.parent
_ROOMS = ("config", "market", "trades", "models", "policies", "learning")
_SOURCES = ("studies", *(f"src/model_service/{room}" for room in _ROOMS))


def code_fingerprint() -> str:
    """Names the code that results depend on: what another code found is not this one's."""
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((ROOT / folder).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class ResultFile:
    """JSON lines of study, seed, code and result. A line cut off by a crash is ignored."""

    def __init__(self, path: Path, code: str) -> None:
        self._path, self._code = path, code
        path.parent.mkdir(parents=True, exist_ok=True)

    def known(self) -> dict[tuple[str, int], Result]:
        """Results of this code by study and seed."""
        if not self._path.exists():
            return {}
        found = (self._parsed(line) for line in self._path.read_text(encoding="utf-8").splitlines())
        return {(one["study"], one["seed"]): one["result"] for one in found if one and one["code"] == self._code}

    def add(self, study: str, seed: int, result: Result) -> None:
        """Keep one result."""
        line = json.dumps({"study": study, "seed": seed, "code": self._code, "result": result})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    @staticmethod
    def _parsed(line: str) -> Result | None:
        try:
            return dict(json.loads(line))
        except ValueError:
            return None
