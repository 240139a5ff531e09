"""Runs every module `bench_*` of this folder: each has `run()`, which yields figures."""

from __future__ import annotations

import importlib
import json
import pkgutil
from dataclasses import asdict
from pathlib import Path


def main() -> None:
    """Print one JSON line per figure."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("bench_"):
            for figure in importlib.import_module(f"benchmarks.{module.name}").run():
                print(json.dumps(asdict(figure)), flush=True)


if __name__ == "__main__":
    main()
