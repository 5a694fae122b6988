"""`python -m keelway_api.migrate`: bring the database to the newest schema."""

from __future__ import annotations

import sys

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from keelway_api.settings import ApiSettings, migrations_dir

LOCK = 0x6D696772  # "migr": two migrators take turns


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Run what is missing, one migrator at a time; each migration is one transaction."""
    engine = create_engine(database_url, connect_args={"connect_timeout": 10})
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            connection.commit()
            command.upgrade(alembic_config(database_url), revision)
    finally:
        engine.dispose()  # the lock belongs to the connection, which the pool would keep


def main() -> int:
    """Upgrade the database of the settings."""
    settings = ApiSettings()  # pyright: ignore[reportCallIssue] - the fields come from the environment
    upgrade(settings.database_url.get_secret_value())
    return 0


if __name__ == "__main__":
    sys.exit(main())
