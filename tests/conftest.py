"""Fixtures that any test may use; each comes from a module of tests/support."""

from importlib.util import find_spec

pytest_plugins = ["tests.support.postgres"]
if find_spec("tests.support.rabbitmq") is not None:
    pytest_plugins.append("tests.support.rabbitmq")
