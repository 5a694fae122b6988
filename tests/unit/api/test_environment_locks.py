"""What stands in a lock, what differs between two, and the limits within which locks are made."""

import asyncio
import json
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from keelway.contracts.environments import LockedPackage
from keelway.contracts.locks import packages_of
from keelway_api.environments import bounded, conda_solver, curated, definition, resolver
from keelway_api.environments.bounded import Places, run
from keelway_api.environments.channels import addresses
from keelway_api.environments.locks import difference
from keelway_api.errors import DependencyAway, EnvironmentUnsolvable, NameReserved, TooBusy

TEXT = """\
acme-lib @ file://${KEELWAY_WHEELS}/acme_lib-1.0%2Bcpu-py3-none-any.whl \\
    --hash=sha256:79
numpy==2.0.2 ; python_full_version < '3.10' \\
    --hash=sha256:02
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:03 \\
    --hash=sha256:04
six==1.17.0
"""
RECORD = {"name": "tides", "version": "2.0", "url": "https://c.example/here/noarch/tides-2.0-0.conda"}
SIX = resolver.Wanted(("six==1.17.0",), "3.11", "x86_64")


def package(name: str, version: str, manager="pip") -> LockedPackage:
    return LockedPackage(name=name, version=version, manager=manager)


def test_a_lock_is_read_package_by_package():
    found = packages_of(TEXT, json.dumps({"records": [RECORD]}))

    assert [(one.name, one.version, one.manager) for one in found] == [
        ("tides", "2.0", "conda"),
        ("acme-lib", "1.0+cpu", "pip"),
        ("numpy", "2.0.2", "pip"),
        ("numpy", "2.5.5", "pip"),
        ("six", "1.17.0", "pip"),
    ]
    assert [one.source for one in found[:2]] == [RECORD["url"], "acme_lib-1.0+cpu-py3-none-any.whl"]
    assert found[2].marker == "python_full_version < '3.10'"
    assert packages_of("") == []


def test_two_locks_differ_in_what_came_went_and_changed():
    before = [package("a", "1"), package("b", "1"), package("c", "1"), package("c", "2"), package("d", "1", "conda")]
    after = [package("a", "1"), package("c", "1"), package("c", "3"), package("d", "1"), package("e", "1")]

    found = difference(before, after)

    assert [one.name for one in found.added] == ["d", "e"]
    assert [(one.name, one.manager) for one in found.removed] == [("d", "conda"), ("b", "pip")]
    assert [(one.name, one.from_version, one.to_version) for one in found.changed] == [("c", "1, 2", "1, 3")]


async def test_only_so_many_resolve_at_once_and_so_many_wait():
    places = Places(at_once=1, waiting_at_most=1, wait_s=30)
    inside = asyncio.Event()

    async def stay() -> None:
        async with places.one():
            inside.set()
            await asyncio.sleep(60)

    first = asyncio.create_task(stay())
    await inside.wait()
    second = asyncio.create_task(stay())
    await asyncio.sleep(0)
    with pytest.raises(TooBusy):
        async with places.one():
            pass
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    async with places.one():
        pass


async def test_nobody_waits_for_a_place_for_ever():
    places = Places(at_once=1, wait_s=0.05)

    async with places.one():
        with pytest.raises(TooBusy) as refused:
            async with places.one():
                pass

    assert refused.value.headers is not None
    assert "Retry-After" in refused.value.headers


async def test_a_program_that_takes_too_long_is_ended():
    others, started = set(psutil.Process().children()), time.monotonic()

    with pytest.raises(DependencyAway):
        await run([sys.executable, "-c", "import time; time.sleep(60)"], "", timeout_s=0.5)

    assert time.monotonic() - started < 10
    assert set(psutil.Process().children()) <= others


async def test_a_program_of_a_request_that_is_cancelled_is_ended():
    others = set(psutil.Process().children())
    running = asyncio.create_task(run([sys.executable, "-c", "import time; time.sleep(60)"], ""))
    await asyncio.sleep(0.3)

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert running.cancelled()
    assert set(psutil.Process().children()) <= others


async def test_a_program_gets_so_much_memory_and_no_more():
    ended = await run([sys.executable, "-c", "x = bytearray(500_000_000)"], "", memory_bytes=200 * 2**20)

    assert "MemoryError" in ended.err


async def test_a_program_gets_the_operators_settings_and_no_secret_of_ours(monkeypatch):
    for name in ("KEELWAY_S3_SECRET_KEY", "DATABASE_URL", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://index")

    ended = await run([sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))"], "")

    seen = json.loads(ended.out)
    assert seen["UV_DEFAULT_INDEX"] == "https://index"
    assert "secret" not in seen.values()


def test_what_runs_out_of_memory_says_so():
    failure = resolver._failure(bounded.Ended(-6, "", ""), SIX)

    assert isinstance(failure, EnvironmentUnsolvable)
    assert "signal 6" in str(failure.detail)


@pytest.mark.parametrize("index", ["http://127.0.0.1:1/simple", "http://no-such-host.invalid/simple"])
async def test_an_index_that_is_away_is_a_dependency_that_is_away(monkeypatch, tmp_path, index):
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")

    with pytest.raises(DependencyAway) as away:
        await resolver.lock(SIX)

    assert away.value.fields["dependency"] == "package-index"


async def test_the_same_request_gives_the_same_lock_whatever_platform_the_api_is_on():
    locks = [await resolver.lock(SIX) for _ in range(2)]
    other = await resolver.lock(resolver.Wanted(("pywin32-ctypes; platform_machine == 'aarch64'",), "3.11", "aarch64"))

    assert locks[0] == locks[1]
    assert "pywin32-ctypes==" in other


def test_lines_are_named_by_their_package_and_by_no_other_that_is_spelled_alike():
    lines = [("six>=2", "six"), ("six-extra", "six-extra"), ("Scikit-Learn", "scikit-learn"), ("x", "x")]

    assert resolver.named("Because six>=2 and scikit-learn do not fit", lines) == ["six>=2", "Scikit-Learn"]


def test_channels_have_addresses_of_the_operators():
    settings = SimpleNamespace(
        conda_channel_base="https://mirror.example/", channel_addresses={"mine": "file:///srv/c"}
    )

    found = addresses(["mine", "conda-forge", "defaults", "a/label/b"], settings)  # pyright: ignore[reportArgumentType]

    assert found == {
        "mine": "file:///srv/c",
        "conda-forge": "https://mirror.example/conda-forge",
        "defaults": "https://repo.anaconda.com/pkgs/main",
        "a/label/b": "https://mirror.example/a/label/b",
    }
    assert list(addresses([], settings)) == ["conda-forge"]  # pyright: ignore[reportArgumentType]


def test_a_solver_that_dies_is_told(monkeypatch):
    async def die(*_: object, **__: object) -> bounded.Ended:
        return bounded.Ended(-11, "", "")

    monkeypatch.setattr(conda_solver, "run", die)
    wanted = definition.Definition(None, (), {})

    with pytest.raises(EnvironmentUnsolvable, match="signal 11"):
        asyncio.run(conda_solver.lock(wanted, {}))


@pytest.mark.parametrize("name", curated.CURATED)
def test_a_curated_lock_has_what_it_is_for_and_the_runtime(name):
    locked = {one.name for one in packages_of(curated.lock_file(name).read_text())}
    wanted = [*curated.CURATED[name], *resolver.runtime_requirements()]

    assert {resolver.Requirement(line).name.lower() for line in wanted} <= locked


@pytest.mark.parametrize("name", ["Keelway-Minimal", "KeelwayX", "AzureML-x", "Microsoft", "keelway-sklearn"])
def test_names_of_curated_environments_are_reserved(name):
    with pytest.raises(NameReserved):
        curated.require_free(name)


@pytest.mark.parametrize("name", ["keelway-env", "azureml-env", "my-Keelway"])
def test_other_names_are_free(name):
    curated.require_free(name)
