"""What the service process loads: never the libraries of the training child. (The import rule itself: `make lint`.)"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TRAINING_LIBRARIES = ("sklearn", "xgboost", "pandas", "joblib", "skops", "skl2onnx", "onnxmltools")
SOURCE = Path(__file__).parents[2] / "src" / "model_service"
ONLY_FOR_THE_CHILD = (
    "model_service.learning", "model_service.training_worker", "model_service.explanation_worker",
    "model_service.distributed_run",
)  # fmt: skip


def service_modules() -> list[str]:
    """Every module that the service process may load."""
    paths = (path.relative_to(SOURCE.parent).with_suffix("") for path in sorted(SOURCE.rglob("*.py")))
    names = (".".join(path.parts).removesuffix(".__init__") for path in paths)
    return [name for name in names if not name.startswith(ONLY_FOR_THE_CHILD) and not name.endswith("__main__")]


def loaded_after_importing(modules: list[str]) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after importing `modules`."""
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_service_process_does_not_load_training_libraries() -> None:
    modules = service_modules()
    assert {"model_service.main", "model_service.api.app", "model_service.cli", "model_service.demo"} <= set(modules)
    loaded = loaded_after_importing(modules)
    assert "onnxruntime" in loaded, "the modules were not really imported"
    assert not loaded.intersection(TRAINING_LIBRARIES)


def test_the_test_above_would_see_them() -> None:
    assert "joblib" in loaded_after_importing(["model_service.config.settings", "joblib"])
