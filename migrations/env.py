"""Alembic's entry: runs migrations against the URL that keelway_api.migrate hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, text

from keelway_api import schema

LOCK_TIMEOUT = "4s"  # a migration that cannot have its lock soon gives up, instead of queueing everybody behind it


def run() -> None:
    """Each migration in a transaction of its own."""
    url = context.config.attributes["database_url"]
    engine = create_engine(url, connect_args={"connect_timeout": 10})
    try:
        with engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=schema.metadata,
                transaction_per_migration=True,
                compare_server_default=True,
            )
            with context.begin_transaction():
                connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
                context.run_migrations()
            connection.commit()
    finally:
        engine.dispose()


run()
