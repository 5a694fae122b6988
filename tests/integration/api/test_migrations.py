"""Migrations: up, down, up again, and never apart from the tables."""

import subprocess
import sys
import threading
from contextlib import contextmanager

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg import sql
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError

from keelway_api import schema
from keelway_api.migrate import LOCK, alembic_config, upgrade
from keelway_api.settings import migrations_dir
from keelway_api.tables import NAMING
from tests.support.api import wait_until


@pytest.fixture
def database_url(api, request):
    """An empty database of this test's own."""
    name = f"migrations_{abs(hash(request.node.name)) % 10**8}"
    with api.stack.postgres.connect("postgres", "postgres") as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER keelway").format(sql.Identifier(name)))
    yield make_url(api.stack.postgres.url).set(database=name).render_as_string(hide_password=False)
    with api.stack.postgres.connect("postgres", "postgres") as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def connected(database_url):
    engine = create_engine(database_url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def tables(database_url):
    with connected(database_url) as connection:
        return set(inspect(connection).get_table_names())


def test_an_empty_database_comes_to_the_newest_schema_and_back(database_url):
    upgrade(database_url)
    assert tables(database_url) == {*schema.metadata.tables, "alembic_version"}

    command.downgrade(alembic_config(database_url), "base")
    assert tables(database_url) == {"alembic_version"}

    upgrade(database_url)
    assert tables(database_url) == {*schema.metadata.tables, "alembic_version"}


def test_the_migrations_make_exactly_the_tables_of_the_code(database_url):
    upgrade(database_url)

    with connected(database_url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_upgrading_twice_changes_nothing(database_url):
    upgrade(database_url)
    upgrade(database_url)

    with connected(database_url) as connection:
        assert len(connection.execute(text("SELECT * FROM alembic_version")).all()) == 1


def test_two_migrators_at_once_take_turns(api, database_url):
    env = {name: value for name, value in api.env().items() if name != "KEELWAY_DATABASE_URL_FILE"}
    run = [sys.executable, "-m", "keelway_api.migrate"]
    env["KEELWAY_DATABASE_URL"] = database_url

    migrators = [subprocess.Popen(run, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    endings = [(migrator.communicate(timeout=60)[1], migrator.returncode) for migrator in migrators]

    assert [code for _, code in endings] == [0, 0], endings
    assert tables(database_url) == {*schema.metadata.tables, "alembic_version"}


def test_a_migrator_that_was_killed_leaves_a_whole_schema_for_the_next(database_url):
    with connected(database_url) as connection:
        connection.execute(text("CREATE TABLE outbox (id int)"))  # in the way: the migration breaks off here
        connection.commit()
    with pytest.raises(Exception, match="outbox"):
        upgrade(database_url)
    assert tables(database_url) <= {"outbox", "alembic_version"}

    with connected(database_url) as connection:
        connection.execute(text("DROP TABLE outbox"))
        connection.commit()
    upgrade(database_url)

    assert tables(database_url) == {*schema.metadata.tables, "alembic_version"}


def test_a_migration_that_cannot_have_its_lock_gives_up(database_url):
    upgrade(database_url)
    with connected(database_url) as connection:
        connection.execute(text("LOCK TABLE audit IN ACCESS SHARE MODE"))

        with pytest.raises(OperationalError) as refused:
            command.downgrade(alembic_config(database_url), "base")

        connection.rollback()
    assert isinstance(refused.value.orig, psycopg.errors.LockNotAvailable)
    assert tables(database_url) >= {"audit", "tokens", "models"}  # all of its own; later ones went before it


def test_a_migrator_waits_for_another_one(database_url):
    with connected(database_url) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        waiter = threading.Thread(target=upgrade, args=[database_url])
        waiter.start()
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'")
        connection.commit()  # within one transaction the view shows the same again and again
        connection.execution_options(isolation_level="AUTOCOMMIT")
        wait_until(lambda: connection.execute(waiting).scalar(), "the other one waits")
        assert tables(database_url) == set()

        connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
        waiter.join(60)
    assert tables(database_url) == {*schema.metadata.tables, "alembic_version"}


def test_environments_of_the_release_before_stay_and_curated_ones_go_when_it_comes_back(database_url):
    command.upgrade(alembic_config(database_url), "0005")
    version = (
        "INSERT INTO environment_versions (id, environment_id, version, content_digest, definition, python_version, "
        "requirements, lock, lock_digest, created_by) "
        "SELECT gen_random_uuid(), id, 1, 'c', '{}', '3.11', '[]', '', 'd', 'x' FROM environments WHERE name = :name"
    )
    with connected(database_url) as connection:
        connection.execute(
            text(
                "WITH w AS (INSERT INTO workspaces (id, name, description, created_by) "
                "VALUES (gen_random_uuid(), 'w', '', 'x') RETURNING id) "
                "INSERT INTO environments (id, workspace_id, name, last_version) "
                "SELECT gen_random_uuid(), id, 'old', 1 FROM w"
            )
        )
        connection.execute(text(version), {"name": "old"})
        connection.commit()

    upgrade(database_url)
    with connected(database_url) as connection:
        curated = "INSERT INTO environments (id, name, last_version) VALUES (gen_random_uuid(), 'curated', 1)"
        connection.execute(text(curated))
        connection.execute(text(version), {"name": "curated"})
        connection.commit()
        with pytest.raises(IntegrityError):
            connection.execute(text(curated))
        connection.rollback()
    command.downgrade(alembic_config(database_url), "0005")

    with connected(database_url) as connection:
        assert connection.execute(text("SELECT name FROM environments")).scalars().all() == ["old"]
        assert len(connection.execute(text("SELECT * FROM environment_versions")).all()) == 1


def test_every_constraint_is_named_by_the_convention(database_url):
    upgrade(database_url)

    with connected(database_url) as connection:
        rows = connection.execute(
            text(
                "SELECT c.conname AS name, c.contype AS type, t.relname AS of FROM pg_constraint c "
                "JOIN pg_class t ON c.conrelid = t.oid JOIN pg_namespace n ON t.relnamespace = n.oid "
                "WHERE n.nspname = 'public' AND t.relname <> 'alembic_version' AND c.contype IN ('p', 'u', 'f', 'c')"
            )
        ).all()
    kinds = {"p": "pk", "u": "uq", "f": "fk", "c": "ck"}
    assert rows
    assert [row.name for row in rows if not row.name.startswith(f"{kinds[row.type]}_{row.of}")] == []
    assert set(NAMING) == {"ix", "uq", "ck", "fk", "pk"}


def test_migrations_do_not_import_the_code_which_moves_on():
    for path in (migrations_dir() / "versions").glob("*.py"):
        assert "import keelway" not in path.read_text(), path.name
        assert "from keelway" not in path.read_text(), path.name
