"""Settings of the process and of what stands around it: address, database, broker, queues."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model_service.config.allowed import Words

Names = Annotated[tuple[str, ...], NoDecode]


WebhookAddress = Annotated[
    str | None, Field(pattern=r"^https?://[^\s/]+(/\S*)?$"), Words("an address with http:// or https://")
]


def names(value: object) -> object:
    """The parts of a text with commas; `none` is no name."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip() and part.strip().lower() != "none")
    return value


class PlatformSettings(BaseSettings):
    """Where the service listens, and whom it is connected to."""

    model_config = SettingsConfigDict(
        extra="ignore", frozen=True, case_sensitive=False, env_ignore_empty=True, allow_inf_nan=False
    )

    # The service itself
    model_service_host: str = Field("127.0.0.1", description="Address to listen on; other than loopback needs a key.")
    model_service_port: int = Field(4500, ge=0, le=65535, description="Port of the HTTP interface.")
    model_service_api_key: SecretStr | None = Field(
        None, description="Key for X-API-Key; on loopback, when unset, one is made and kept in the state folder."
    )
    model_service_log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level logged."
    )
    model_service_log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON lines."
    )
    model_service_state_path: Path = Field(
        Path(".model-service"), description="Folder for the embedded database, made-up keys and, by default, models."
    )
    model_storage_path: Path | None = Field(None, description="Folder of model files; the platform uses /models.")

    alert_webhook_url: WebhookAddress = Field(
        None,
        description="Gets a POST with JSON when live quality falls, a mode changes, or trainings fail in a row.",
    )
    alert_webhook_secret: SecretStr | None = Field(
        None, description="Signs those: header X-Model-Service-Signature holds sha256= and the HMAC-SHA256 of the body."
    )

    # PostgreSQL
    postgres_host: str | None = Field(None, description="Host of the shared PostgreSQL; unset: the embedded one.")
    postgres_port: int = Field(5432, ge=1, le=65535, description="Its port.")
    postgres_db: str = Field("postgres", min_length=1, description="Its database.")
    postgres_user: str = Field("postgres", min_length=1, description="Its role.")
    postgres_password: SecretStr | None = Field(None, description="Its password.")
    model_service_schema: str = Field(
        "model_service", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Schema that holds our tables."
    )
    model_service_shared_schema: str = Field(
        "public", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Schema of the siblings' tables orders and positions."
    )
    model_service_database_pool_size: int = Field(8, ge=2, le=100, description="Connections at most.")

    # RabbitMQ
    rabbitmq_host: str | None = Field(None, description="Host of RabbitMQ; unset: messages travel through PostgreSQL.")
    rabbitmq_port: int = Field(5672, ge=1, le=65535, description="Its port.")
    rabbitmq_user: str = Field("guest", min_length=1, description="Its user.")
    rabbitmq_password: SecretStr = Field(SecretStr("guest"), description="Its password.")
    rabbitmq_vhost: str = Field("/", min_length=1, description="Its virtual host.")

    # Queues
    execution_queue: str = Field(
        "order-manager.execution_events",
        min_length=1,
        description="Queue of execution events; declared by us when absent.",
    )
    execution_queue_is_ours: bool = Field(
        True, description="false: another service declares it, and we wait for it instead of declaring it."
    )
    execution_reconciliation_interval_seconds: float = Field(
        2.0, ge=0.1, le=3600, description="Time between two looks at the shared table orders."
    )
    execution_reconciliation_grace_seconds: float = Field(
        5.0, ge=0, le=3600, description="So long events may come before the table's totals are taken."
    )
    execution_reconciliation_sweep_seconds: float = Field(
        300.0, ge=1, le=86_400, description="Time between two looks at all orders of the last 24 hours."
    )
    market_data_queues: Names = Field(
        ("ws-gateway.ticker", "ws-gateway.trade", "ws-gateway.orderbook", "ws-gateway.kline"),
        description="Gateway queues to take from; taking from one that another service reads robs it. Empty: `none`.",
    )
    market_data_declare_queues: bool = Field(
        False, description="true: declare them when absent (only where no gateway does it with its own arguments)."
    )
    market_data_bar_seconds: int = Field(60, ge=1, le=3600, description="Length of a bar.")
    market_data_max_age_seconds: float = Field(
        60.0,
        gt=0,
        le=604_800,
        description="Older market data are stale, and no signal is made of them; of an older book no opening.",
    )
    market_data_stale_warning_threshold_seconds: float = Field(
        30.0, gt=0, le=604_800, description="Market data of an asset that become so old are warned of in the log, once."
    )
    market_data_max_jump_percent: float = Field(
        50.0,
        gt=0,
        le=100_000,
        description="A price so far from the last one, larger over smaller, waits for a second event that confirms it.",
    )
    market_data_indicators_max_age_bars: float = Field(
        5.0,
        ge=1,
        le=100_000,
        description="So many bars old may the newest closed one be for an opening; after a longer gap indicators begin "
        "anew.",
    )

    market_data_subscribe: bool = Field(
        True, description="Ask the gateway at WS_GATEWAY_HOST for the market data of all assets; nothing is taken back."
    )
    ws_gateway_host: str | None = Field(
        None,
        description="Host of ws-gateway's REST interface; unset: somebody else subscribes to the market data "
        "and has balances written.",
    )
    ws_gateway_port: int = Field(4400, ge=1, le=65535, description="Its port.")
    ws_gateway_api_key: SecretStr | None = Field(None, description="Its key.")

    @field_validator("ws_gateway_host", "ws_gateway_api_key")
    @classmethod
    def _one_line(cls, value: str | SecretStr | None) -> str | SecretStr | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not (text.isascii() and text.isprintable()):
            raise ValueError("allowed: printable ASCII characters, as they travel in a header")
        return value

    @field_validator("market_data_queues", mode="before")
    @classmethod
    def _queues(cls, value: object) -> object:
        return names(value)

    @property
    def uses_embedded_database(self) -> bool:
        """Whether the service brings its own PostgreSQL."""
        return self.postgres_host is None

    @property
    def uses_rabbitmq(self) -> bool:
        """Whether messages travel through RabbitMQ."""
        return self.rabbitmq_host is not None
