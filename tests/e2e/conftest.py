"""A user and a command line on the one stack that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command_line import CommandLine
from tests.support.engine import engine_missing
from tests.support.images import docker, ensure_base
from tests.support.own_engine import OwnEngine
from tests.support.registry_process import Registry
from tests.support.stack import Stack
from tests.support.user import User

NO_BASE = "127.0.0.1:9/python:{python}"


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole of Keelway, one for all tests of this folder. Who kills a part of it waits until it works again."""
    folder = tmp_path_factory.mktemp("stack")
    # Conda channels that are made by whoever needs them.
    channels = f"local={(folder / 'channel').as_uri()} whole={(folder / 'whole').as_uri()}"
    # Who names no base image gets one that is nowhere: no test may need the world.
    stack = Stack(folder, env={"KEELWAY_CONDA_CHANNELS": channels, "KEELWAY_BASE_IMAGE": NO_BASE})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="package")
def keelway(stack: Stack) -> CommandLine:
    """The `keelway` command."""
    return CommandLine(stack)


@pytest.fixture(scope="package")
def user(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Somebody with the SDK."""
    user = User(stack, tmp_path_factory.mktemp("user"))
    with user.client:
        yield user


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry of images that wants a password, for one file of tests."""
    if why := engine_missing() or Registry.missing():
        pytest.skip(why)
    registry = Registry(tmp_path_factory.mktemp("registry"))
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture
def own_engine(tmp_path_factory, monkeypatch):
    """own_engine(size): one that holds the base image, and is what this process talks to."""
    if why := engine_missing() or OwnEngine.missing():
        pytest.skip(why)
    made = []

    def start(size=None):
        # A short path: a socket's name may have 107 bytes.
        engine = OwnEngine(tmp_path_factory.mktemp("e"), size=size)
        made.append(engine)
        engine.start()
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        return engine

    yield start
    for engine in made:
        engine.remove()


@pytest.fixture
def base_tar(tmp_path):
    """The base image in a file."""
    docker("save", "-o", str(tmp_path / "base.tar"), ensure_base())
    return tmp_path / "base.tar"
