"""Fixtures that any test may use, each from a module of tests/support, and how Hypothesis runs."""

import os

from hypothesis import settings

pytest_plugins = ["tests.support.postgres", "tests.support.rabbitmq"]

# As in a training child: XGBoost's threads spin while they wait, and tests run beside each other.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# How long an example takes is the machine's matter: a busy one must not fail a test.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")
