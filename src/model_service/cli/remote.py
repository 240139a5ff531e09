"""Commands that ask a running service over HTTP: status, train, models."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from model_service.cli import remote_text as text
from model_service.cli.errors import CommandFailed, ExitCode, plain_errors
from model_service.config.settings import Settings, load_settings

models_app = typer.Typer(no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit log.")]
TIMEOUT_SECONDS = 30.0
UNHEALTHY = frozenset({503})
EXIT_BY_STATUS = {400: ExitCode.REFUSED, 404: ExitCode.NOT_FOUND, 409: ExitCode.REFUSED, 503: ExitCode.DEPENDENCY_AWAY}


def status(as_json: AsJson = False) -> None:
    """Show what each strategy does, what is being trained, and what does not work or is switched off."""
    with plain_errors():
        strategies = request("GET", "/api/v1/strategies")
        training = request("GET", "/api/v1/training/status")
        if as_json:
            _print_json({**strategies, "training": training})
            return
        health = request("GET", "/health", answers=UNHEALTHY)
        readiness = request("GET", "/readyz", answers=UNHEALTHY)
        typer.echo("\n".join(text.status_lines(strategies, training, health, readiness)))


def train(
    strategy: Annotated[str, typer.Option(help="Strategy to train for.")],
    training_type: Annotated[str, typer.Option("--type", help="full or incremental")] = "full",
    as_json: AsJson = False,
) -> None:
    """Ask for a training run now."""
    with plain_errors():
        answer = request("POST", "/api/v1/training/trigger", {"strategy_id": strategy, "training_type": training_type})
        _print_json(answer) if as_json else typer.echo(f"{answer['status']}: run {answer['training_id']}")


@models_app.command("list")
def list_models(strategy: Annotated[str | None, typer.Option()] = None, as_json: AsJson = False) -> None:
    """List versions, newest first."""
    with plain_errors():
        query = urlencode({"strategy_id": strategy}) if strategy else ""
        answer = request("GET", f"/api/v1/models?{query}")
        if as_json:
            _print_json(answer)
            return
        typer.echo("\n".join(text.version_lines(answer, strategy)))


@models_app.command()
def show(version: str) -> None:
    """Show one version as JSON: metrics with intervals, gate, dataset report."""
    with plain_errors():
        _print_json(request("GET", f"/api/v1/models/{quote(version, safe='')}"))


@models_app.command()
def promote(
    version: str,
    strategy: Annotated[str | None, typer.Option(help="Strategy that it shall speak for.")] = None,
    force: Annotated[bool, typer.Option(help="Override the gate; recorded with your reason.")] = False,
) -> None:
    """Let a version speak."""
    with plain_errors():
        request("POST", f"/api/v1/models/{quote(version, safe='')}", {"strategy_id": strategy, "force": force})
        typer.echo(f"{version} is active")


@models_app.command()
def rollback(strategy: str, reason: Reason = "asked for at the terminal") -> None:
    """Let the version speak that spoke before."""
    with plain_errors():
        answer = request("POST", f"/api/v1/strategies/{quote(strategy, safe='')}/rollback", {"reason": reason})
        typer.echo(f"{answer['version']} is active")


def request(
    method: str, path: str, body: Mapping[str, Any] | None = None, *, answers: Collection[int] = frozenset()
) -> Any:
    """The JSON answer of the running service; `answers` are statuses of errors whose body is an answer all the same.

    Raises CommandFailed, SettingsError.
    """
    settings, _ = load_settings(os.environ)
    url = f"http://{settings.model_service_host}:{settings.model_service_port}{path}"
    data = json.dumps(body).encode() if body is not None else None
    headers = {"X-API-Key": _key(settings), "Content-Type": "application/json"}
    call = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(call, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - always http
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in answers:
            return json.load(error)
        raise _refused(error) from error
    except TimeoutError as error:
        raise CommandFailed(ExitCode.TIMEOUT, f"{url} did not answer within {TIMEOUT_SECONDS:g} s.") from error
    except OSError as error:
        raise CommandFailed(
            ExitCode.DEPENDENCY_AWAY,
            f"No service answers at {url}: {text.cause(error)}. Is `model-service run` running?",
        ) from error


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


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))
