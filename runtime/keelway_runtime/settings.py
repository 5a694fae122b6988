"""What the server is told from outside: environment variables, read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

MEBIBYTE = 1024 * 1024


class SettingsError(ValueError):
    """The environment does not describe a server that could start."""


_NUMBERS = (
    "max_body_bytes",
    "max_answer_bytes",
    "max_connections",
    "max_queue",
    "max_queue_wait_ms",
    "scoring_timeout_ms",
    "workers",
    "max_concurrent_requests",
    "batch_size",
    "batch_delay_ms",
    "collect_max_bytes",
    "grace_s",
)
_POSITIVE = ("max_connections", "scoring_timeout_ms", "workers", "max_concurrent_requests")


@dataclass(frozen=True)
class Settings:
    """One server's configuration. Sizes are in bytes, times in seconds, paths absolute."""

    app_root: Path
    entry_script: str = ""
    no_code: str = ""
    source_directory: Path | None = None
    model_dir: str | None = None
    service_name: str = "service"
    workspace: str = "default"
    revision: str = ""
    host: str = "127.0.0.1"
    port: int = 5001
    listen_fd: int | None = None
    max_body_bytes: int = 100 * MEBIBYTE
    max_answer_bytes: int = 100 * MEBIBYTE
    max_connections: int = 1000
    max_queue: int = 1000
    max_queue_wait_ms: int = 300_000
    scoring_timeout_ms: int = 3_600_000
    workers: int = 1
    max_concurrent_requests: int = 1
    batch_size: int = 0
    batch_delay_ms: int = 0
    cors_origins: tuple[str, ...] = ()
    keys_file: Path | None = None
    tokens_file: Path | None = None
    collect_dir: Path | None = None
    collect_max_bytes: int = 256 * MEBIBYTE
    grace_s: int = 10

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """The settings these variables describe; an empty variable counts as absent.

        Raises SettingsError when a number is not one or no entry script is named.
        """
        given = {name: value for name, value in environ.items() if value}
        if "AZUREML_ENTRY_SCRIPT" not in given and "KEELWAY_NO_CODE" not in given:
            raise SettingsError("AZUREML_ENTRY_SCRIPT must name the script with init() and run()")
        app_root = Path(given.get("AML_APP_ROOT", ".")).resolve()
        source = given.get("AZUREML_SOURCE_DIRECTORY")
        return cls(
            app_root=app_root,
            entry_script=given.get("AZUREML_ENTRY_SCRIPT", ""),
            no_code=given.get("KEELWAY_NO_CODE", ""),
            source_directory=(app_root / source).resolve() if source else None,
            model_dir=given.get("AZUREML_MODEL_DIR"),
            service_name=given.get("SERVICE_NAME", cls.service_name),
            workspace=given.get("KEELWAY_WORKSPACE", cls.workspace),
            revision=given.get("KEELWAY_REVISION", cls.revision),
            host=given.get("KEELWAY_HOST", cls.host),
            port=_number(given, "KEELWAY_PORT", cls.port, highest=65535),
            listen_fd=_number(given, "KEELWAY_LISTEN_FD", 0) if "KEELWAY_LISTEN_FD" in given else None,
            cors_origins=tuple(given.get("KEELWAY_CORS_ORIGINS", "").replace(",", " ").split()),
            keys_file=_path(given, "KEELWAY_KEYS_FILE"),
            tokens_file=_path(given, "KEELWAY_TOKENS_FILE"),
            collect_dir=_path(given, "KEELWAY_COLLECT_DIR"),
            **{
                name: _number(given, f"KEELWAY_{name.upper()}", getattr(cls, name), lowest=int(name in _POSITIVE))
                for name in _NUMBERS
            },
        )


def _number(given: Mapping[str, str], name: str, default: int, *, lowest: int = 0, highest: int | None = None) -> int:
    if name not in given:
        return default
    text = given[name]
    if not text.isascii() or not text.isdigit():
        raise SettingsError(f"{name} must be a whole number of 0 or more, not {text!r}")
    if int(text) < lowest:
        raise SettingsError(f"{name} must be at least {lowest}, not {text}")
    if highest is not None and int(text) > highest:
        raise SettingsError(f"{name} must be at most {highest}, not {text}")
    return int(text)


def _path(given: Mapping[str, str], name: str) -> Path | None:
    return Path(given[name]).resolve() if name in given else None
