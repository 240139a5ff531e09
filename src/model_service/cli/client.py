"""The HTTP interface of a running service, as the commands ask it."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from typing import Any

import typer

from model_service.cli import remote_text as text
from model_service.cli.errors import CommandFailed, ExitCode
from model_service.config.loading import load_settings
from model_service.config.settings import Settings

TIMEOUT_SECONDS = 30.0
EXIT_BY_STATUS = {400: ExitCode.REFUSED, 404: ExitCode.NOT_FOUND, 409: ExitCode.REFUSED, 503: ExitCode.DEPENDENCY_AWAY}


def request(
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    answers: Collection[int] = frozenset(),
    seconds: float = TIMEOUT_SECONDS,
) -> Any:
    """The JSON answer of the running service; `answers` are statuses of errors whose body is an answer all the same.

    Raises CommandFailed, SettingsError.
    """
    settings, _ = load_settings(os.environ)
    url = f"http://{settings.model_service_host}:{settings.model_service_port}{path.rstrip('?')}"
    data = json.dumps(body).encode() if body is not None else None
    headers = {"X-API-Key": _key(settings), "Content-Type": "application/json"}
    call = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(call, timeout=seconds) as answer:  # noqa: S310 - always http
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in answers:
            return json.load(error)
        raise _refused(error) from error
    except TimeoutError as error:
        raise CommandFailed(ExitCode.TIMEOUT, f"{url} did not answer within {seconds:g} s.") from error
    except OSError as error:
        raise CommandFailed(
            ExitCode.DEPENDENCY_AWAY,
            f"No service answers at {url}: {text.cause(error)}. Is `model-service run` running, and on that port? "
            "MODEL_SERVICE_PORT says where this command looks.",
        ) from error


def print_json(value: Any) -> None:
    """An answer as it came."""
    typer.echo(json.dumps(value, indent=2))


def _refused(error: urllib.error.HTTPError) -> CommandFailed:
    try:
        problem = json.load(error)
    except ValueError:
        problem = {}
    detail = problem.get("detail") or problem.get("error") or error.reason
    return CommandFailed(EXIT_BY_STATUS.get(error.code, ExitCode.FAILED), f"{error.code}: {detail}")


def _key(settings: Settings) -> str:
    if settings.model_service_api_key is not None:
        return settings.model_service_api_key.get_secret_value()
    path = settings.model_service_state_path / "api-key"
    try:
        return path.read_text().strip()
    except OSError as error:
        raise CommandFailed(
            ExitCode.SETTINGS,
            f"MODEL_SERVICE_API_KEY is not set and {path} cannot be read ({error.strerror}); "
            "run this where the service was started, or set the key.",
        ) from error
