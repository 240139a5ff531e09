"""Fixtures that any test may use; each comes from a module of tests/support."""

pytest_plugins = ["tests.support.postgres", "tests.support.rabbitmq"]
