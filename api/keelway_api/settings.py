"""What the API is told from outside: one class, read once in the entry point and passed in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from keelway_api.auth.secrets import TokenSecret

PREFIX = "KEELWAY_"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class MissingSecretFile(Exception):  # noqa: N818
    """A KEELWAY_..._FILE names what cannot be read."""


class FileSecrets(PydanticBaseSettingsSource):
    """Reads KEELWAY_X_FILE, a path, for a setting x: secrets need not stand in the environment."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """The text of the file that is named for this setting. Raises MissingSecretFile."""
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        try:
            value = Path(path).read_text().strip() if path else None
        except OSError as error:
            name = f"{PREFIX}{field_name.upper()}_FILE"
            raise MissingSecretFile(f"{name}: {path} cannot be read: {error.strerror}") from error
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class ApiSettings(BaseSettings):
    """Settings of the API process; see docs/processes.md for each."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    database_url: SecretStr
    redis_url: SecretStr
    s3_endpoint: str
    s3_access_key: SecretStr
    s3_secret_key: SecretStr
    s3_bucket: str = "keelway"
    s3_secure: bool = False
    s3_region: str = "us-east-1"
    s3_public_url: AnyHttpUrl | None = None
    s3_link_s: int = Field(900, ge=1, le=7 * 86400)
    host: str = "127.0.0.1"
    port: int = Field(7300, ge=0, le=65535)
    behind_proxy: bool = False
    insecure: bool = False
    allowed_hosts: str = "localhost,127.0.0.1,[::1]"
    admin_token: SecretStr | None = None
    worker_token: SecretStr | None = None
    gateway_token: SecretStr | None = None
    gateway_url: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:7301")
    gateway_check_url: AnyHttpUrl | None = None
    lease_s: float = Field(30.0, gt=0)
    clock_s: float = Field(5.0, gt=0)
    operation_deadline_s: float = Field(3600.0, gt=0)
    node_away_s: float = Field(15.0, gt=0)
    uploads_at_once: int = Field(8, gt=0)
    upload_idle_s: float = Field(30.0, gt=0)
    upload_min_bytes_per_s: int = Field(4096, ge=0)
    upload_keep_s: float = Field(86400.0, gt=0)
    gc_grace_s: float = Field(86400.0, ge=0)
    gc_every_s: float = Field(600.0, gt=0)
    late_writer_s: float = Field(300.0, ge=0)
    scrub_every_s: float = Field(30 * 86400.0, gt=0)
    max_form_bytes: int = Field(2**30, gt=0)
    max_file_bytes: int = Field(64 * 2**30, gt=0)
    registry_pull_username: str | None = None
    registry_pull_password: SecretStr | None = None
    conda_channels: str = ""
    conda_channel_base: AnyHttpUrl = AnyHttpUrl("https://conda.anaconda.org")
    status_file: Path | None = None

    @field_validator("admin_token", "worker_token", "gateway_token")
    @classmethod
    def _is_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and TokenSecret.parse(token.get_secret_value()) is None:
            raise ValueError("a token looks like kw_<12 hex digits>_<43 url-safe characters>")
        return token

    @field_validator("database_url")
    @classmethod
    def _is_database_url(cls, url: SecretStr) -> SecretStr:
        try:
            make_url(url.get_secret_value())
        except ArgumentError:
            raise ValueError("not like postgresql+psycopg://user:password@host/database") from None
        return url

    @field_validator("conda_channels")
    @classmethod
    def _has_addresses(cls, channels: str) -> str:
        for word in channels.split():
            name, _, url = word.partition("=")
            if not name or not url.startswith(("https://", "http://", "file:///")):
                raise ValueError("conda channels are given as name=url, with a blank between them")
        return channels

    @field_validator("s3_public_url", mode="before")
    @classmethod
    def _none_when_empty(cls, url: Any) -> Any:
        return url or None

    @field_validator("gateway_url", "gateway_check_url", "s3_public_url", mode="after")
    @classmethod
    def _no_path(cls, url: AnyHttpUrl | None) -> AnyHttpUrl | None:
        if url is not None and (url.path not in {None, "/"} or url.query or url.fragment or url.username):
            raise ValueError("must be a scheme, a host and a port, and nothing else")
        return url

    @model_validator(mode="after")
    def _loopback_unless_told(self) -> ApiSettings:
        if self.host not in LOOPBACK and not (self.behind_proxy or self.insecure):
            raise ValueError(
                f"refusing to listen on {self.host} without TLS: set KEELWAY_BEHIND_PROXY when a proxy terminates TLS, "
                "or KEELWAY_INSECURE to accept that tokens cross the network in the clear"
            )
        return self

    @property
    def hosts(self) -> frozenset[str]:
        """Host names, without ports, that may stand in a Host header; `*` allows all."""
        return frozenset(host.strip().lower() for host in self.allowed_hosts.split(",") if host.strip())

    @property
    def channel_addresses(self) -> dict[str, str]:
        """The address of each conda channel that has one of its own."""
        return dict(word.split("=", 1) for word in self.conda_channels.split())

    @property
    def gateway_base(self) -> str:
        """The gateway's URL without a trailing slash."""
        return str(self.gateway_url).rstrip("/")

    @property
    def gateway_check_base(self) -> str:
        """Where workers reach the gateway to see that a route is live; the public URL unless told otherwise."""
        return str(self.gateway_check_url or self.gateway_url).rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then KEELWAY_..._FILE."""
        return init_settings, env_settings, FileSecrets(settings_cls)


def migrations_dir() -> Path:
    """Where the Alembic scripts are: packaged beside the code, or at the top of a checkout."""
    packaged = Path(__file__).parent / "_migrations"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "migrations"
