"""The worker's and supervisor's settings, from `KEELWAY_...` environment variables."""
# ruff: noqa: N818  (named after what happened, as the SDK's errors are)

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from keelway.contracts.images import ImageReference, RegistryCredentials

PREFIX = "KEELWAY_"
SECRETS = ("worker_token", "redis_url", "gateway_token", "registry_password")


class SettingsInvalid(Exception):
    """A setting is missing or has a value that cannot be used; the message says which and how to give it."""


class WorkerSettings(BaseSettings):
    """What a worker or supervisor is told; one object a process, made in its entry point."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore")

    url: str = "http://127.0.0.1:7300"
    worker_token: SecretStr
    redis_url: SecretStr | None = None
    node_name: str = Field(default_factory=socket.gethostname, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9\-._]{0,199}$")
    node_dir: Path
    worker_concurrency: int = Field(2, ge=1, le=64)
    pythons: str = ""
    replica_host: str = Field("127.0.0.1", pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9\-.]{0,251}[a-zA-Z0-9])?$")
    replica_network: str | None = Field(None, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,127}$")
    gateway_routes_file: Path | None = None
    gateway_token: SecretStr | None = None
    base_image: str = Field("python:{python}-slim", min_length=1, max_length=512)
    build_network: str = Field("default", pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,127}$")
    registry: ImageReference | None = None
    registry_username: str | None = None
    registry_password: SecretStr | None = None

    @property
    def registry_credentials(self) -> RegistryCredentials | None:
        """Who this node is to the operator's registry; None where it takes anybody."""
        if self.registry is None or self.registry_username is None or self.registry_password is None:
            return None
        return RegistryCredentials(
            address=self.registry.partition("/")[0],
            username=self.registry_username,
            password=self.registry_password.get_secret_value(),
        )

    @property
    def routes_token(self) -> str:
        """The token that reads the gateway's routes: the gateway's own where there is one."""
        return (self.gateway_token or self.worker_token).get_secret_value()

    @property
    def broker_url(self) -> str:
        """Where the doorbell is; SettingsInvalid when it was never said."""
        if self.redis_url is None:
            raise SettingsInvalid(_required("redis_url"))
        return self.redis_url.get_secret_value()


def load_settings() -> WorkerSettings:
    """The settings of this process; SettingsInvalid lists everything that is wrong, at once."""
    try:
        settings = WorkerSettings(**_secrets_from_files(os.environ))
    except ValidationError as invalid:
        raise SettingsInvalid("; ".join(_complaint(error) for error in invalid.errors())) from None
    settings.node_dir = settings.node_dir.absolute()
    return settings


def _secrets_from_files(environ: Mapping[str, str]) -> dict[str, Any]:
    secrets: dict[str, Any] = {}
    for name in SECRETS:
        variable = f"{PREFIX}{name.upper()}_FILE"
        path = environ.get(variable)
        if not path:
            continue
        try:
            secrets[name] = SecretStr(Path(path).read_text().strip())
        except OSError as error:
            raise SettingsInvalid(f"{variable}: {path}: {error.strerror}") from None
    return secrets


def _complaint(error: Any) -> str:
    name = str(error["loc"][0])
    if error["type"] == "missing":
        return _required(name)
    return f"{PREFIX}{name.upper()}: {error['msg']}"


def _required(name: str) -> str:
    variable = f"{PREFIX}{name.upper()}"
    return f"{variable} is required" + (f" (or {variable}_FILE, a path)" if name in SECRETS else "")
