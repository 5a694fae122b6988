"""What `keelway up`, `keelway demo` and `keelway doctor` call. Each gives an exit code."""

from __future__ import annotations

from pathlib import Path


def up(data_dir: Path | None, host: str, port: int, gateway_port: int, *, services_only: bool = False) -> int:
    """Start everything, until Ctrl-C."""
    from keelway_standalone.up import up as run  # noqa: PLC0415 (each command loads only what it needs)

    return run(data_dir, host=host, port=port, gateway_port=gateway_port, services_only=services_only)


def demo(data_dir: Path | None) -> int:
    """Train, register, deploy, score and compare, on a stack of its own."""
    from keelway_standalone.demo import demo as run  # noqa: PLC0415

    return run(data_dir)


def doctor(data_dir: Path | None) -> int:
    """Show versions and durability settings, and check that everything fits together."""
    from keelway_standalone.doctor import doctor as run  # noqa: PLC0415

    return run(data_dir)
