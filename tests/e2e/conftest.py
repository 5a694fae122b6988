"""A user and a command line on the one stack that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command_line import CommandLine
from tests.support.engine import engine_missing
from tests.support.registry_process import Registry
from tests.support.stack import Stack
from tests.support.user import User


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole of Keelway, one for all tests of this folder. Who kills a part of it waits until it works again."""
    folder = tmp_path_factory.mktemp("stack")
    # Conda channels that are made by whoever needs them.
    channels = f"local={(folder / 'channel').as_uri()} whole={(folder / 'whole').as_uri()}"
    stack = Stack(folder, env={"KEELWAY_CONDA_CHANNELS": channels})
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
