"""docs/events.md and the code name the same log events, with the same levels."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "model_service"
PAGE = ROOT / "docs" / "events.md"
LEVELS = {name: name for name in ("debug", "info", "warning", "error", "critical")} | {"exception": "error"}
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \|", re.MULTILINE)

Events = Mapping[str, set[str]]


class UnreadableEvent(Exception):
    """A log call whose event cannot be read from the source."""


def events_of_page(text: str) -> Events:
    """Levels by name of event, from the tables."""
    return {name: set(levels.strip().split(", ")) for name, levels in ROW.findall(text)}


def events_of_code(modules: Mapping[str, str]) -> Events:
    """Levels by name of event, from the log calls of the modules (source by place)."""
    found: dict[str, set[str]] = defaultdict(set)
    for place, source in modules.items():
        for name, level in log_calls(ast.parse(source), place):
            found[name].add(level)
    return found


def log_calls(tree: ast.Module, place: str) -> Iterator[tuple[str, str]]:
    """Event and level of every log call. Raises UnreadableEvent."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and is_log_call(call):
                assert isinstance(call.func, ast.Attribute)
                names = list(texts(call.args[0], function, tree)) if call.args else []
                if not names:
                    raise UnreadableEvent(f"{place}:{call.lineno}: {ast.unparse(call)}")
                yield from ((name, LEVELS[call.func.attr]) for name in names)


def is_log_call(call: ast.Call) -> bool:
    """`log.info(...)`, `self._log.info(...)`, `structlog.get_logger().info(...)`."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in LEVELS:
        return False
    logger = call.func.value
    if isinstance(logger, ast.Call):
        return ast.unparse(logger.func).endswith("get_logger")
    return ast.unparse(logger).rpartition(".")[2] in ("log", "_log", "logger")


def texts(value: ast.expr, function: ast.FunctionDef | ast.AsyncFunctionDef, tree: ast.Module) -> Iterator[str]:
    """The texts that an expression may be: a constant, either branch, a local name, or what callers hand over."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from texts(value.body, function, tree)
        yield from texts(value.orelse, function, tree)
    elif isinstance(value, ast.Name):
        for given in (*assigned(value.id, function), *handed_over(value.id, function, tree)):
            yield from texts(given, function, tree)


def assigned(name: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    """What a function assigns to a local name."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets):
            yield node.value


def handed_over(name: str, function: ast.FunctionDef | ast.AsyncFunctionDef, tree: ast.Module) -> Iterator[ast.expr]:
    """What the module's own calls of a method give for one of its parameters."""
    parameters = [argument.arg for argument in function.args.args if argument.arg != "self"]
    if name not in parameters:
        return
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == f"self.{function.name}":
            yield call.args[parameters.index(name)]


def sources() -> dict[str, str]:
    """Every module of the package."""
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(SOURCE.rglob("*.py"))}


def test_the_page_lists_every_event_of_the_code_and_no_other() -> None:
    code, page = events_of_code(sources()), events_of_page(PAGE.read_text())
    assert sorted(code.keys() - page.keys()) == [], "not in docs/events.md"
    assert sorted(page.keys() - code.keys()) == [], "in docs/events.md, but no longer in the code"


def test_the_page_names_their_levels() -> None:
    code, page = events_of_code(sources()), events_of_page(PAGE.read_text())
    assert {name: page[name] for name in page.keys() & code.keys()} == {
        name: levels for name, levels in code.items() if name in page
    }


def test_no_event_stands_twice_on_the_page() -> None:
    names = [name for name, _ in ROW.findall(PAGE.read_text())]
    assert sorted(names) == sorted(set(names))


def test_every_module_with_a_logger_was_read() -> None:
    with_logger = {place for place, source in sources().items() if "get_logger(" in source}
    assert len(with_logger) > 10
    for place in sorted(with_logger):
        assert events_of_code({place: sources()[place]}), place


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('log.info("one")', {"one": {"info"}}),
        ('self._log.exception("two")', {"two": {"error"}}),
        ('log.warning("three" if x else "four")', {"three": {"warning"}, "four": {"warning"}}),
        ('structlog.get_logger().warning("five")', {"five": {"warning"}}),
        ('math.log("six")', {}),
    ],
)
def test_the_reader_sees_log_calls(line: str, expected: Events) -> None:
    assert events_of_code({"a.py": f"def f(self, x):\n    {line}\n"}) == expected


def test_an_event_that_is_made_up_at_run_time_is_refused() -> None:
    with pytest.raises(UnreadableEvent, match=r"a\.py:2"):
        events_of_code({"a.py": 'def f(x):\n    log.info(f"training_{x}")\n'})
