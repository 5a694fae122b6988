"""Images to and from a real registry: with the right password, with a wrong one, and when it is gone."""

from __future__ import annotations

import uuid

import pytest

from keelway.contracts.images import RegistryCredentials
from keelway_workers.failures import WorkFailed
from keelway_workers.images.engine import Engine
from tests.support.images import built, docker, ensure_base, inspect
from tests.support.registry_process import PASSWORD, USERNAME

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def engine(registry):
    """This machine's engine, for work that goes on."""
    engine = Engine(lambda: None)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def small(registry, tmp_path_factory):
    """An image of a few bytes, under a name of the registry."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "Dockerfile").write_text(f"FROM scratch\nLABEL made={uuid.uuid4().hex}\nCOPY Dockerfile /\n")
    name = f"{registry.address}/team/small:1"
    docker("build", "-q", "-t", name, str(folder))
    yield name
    docker("image", "rm", "--force", name, check=False)


def credentials(registry, password=PASSWORD):
    return RegistryCredentials(address=registry.address, username=USERNAME, password=password)


def test_an_image_that_was_pushed_can_be_pulled(registry, engine, small):
    said: list[str] = []
    before = inspect(small)["Id"]

    digest = engine.push(small, said.append, credentials(registry))
    docker("image", "rm", "--force", small)
    assert engine.image(small) is None
    found = engine.pull(small, said.append, credentials(registry))

    assert found.id == before
    assert found.digests == (f"{registry.address}/team/small@{digest}",)
    assert PASSWORD not in "\n".join(said)


@pytest.mark.parametrize("password", ["wrong", None])
def test_a_registry_that_refuses_is_told_as_that(registry, engine, small, password):
    known = credentials(registry, password) if password else None

    with pytest.raises(WorkFailed) as pulled:
        engine.pull(f"{registry.address}/team/other:1", lambda _: None, known)
    with pytest.raises(WorkFailed) as pushed:
        engine.push(small, lambda _: None, known)

    assert {pulled.value.code, pushed.value.code} == {"registry-refused"}
    assert registry.address in pulled.value.message


def test_an_image_that_the_registry_lacks_is_told_as_that(registry, engine):
    with pytest.raises(WorkFailed) as failed:
        engine.pull(f"{registry.address}/team/none:1", lambda _: None, credentials(registry))

    assert failed.value.code == "image-not-found"


def test_a_base_is_pulled_with_the_environment_s_credentials(registry, user, keelway, tmp_path):
    name = f"{registry.address}/team/base:{uuid.uuid4().hex[:8]}"
    docker("tag", ensure_base(), name)
    with_password = RegistryCredentials(address=registry.address, username=USERNAME, password=PASSWORD)
    engine = Engine(lambda: None)
    engine.push(name, lambda _: None, with_password)
    engine.close()
    docker("image", "rm", name)

    user.client.environments.register(
        "from-registry", pip_requirements=["humanize==4.12.1"], base_image=name, base_image_registry=with_password
    )
    operation, _, log = built(user, "from-registry:1")

    assert operation.state == "succeeded", operation.error
    assert f"pulling {name}" in log
    assert PASSWORD not in log
    assert operation.result["base_image"].startswith(f"{registry.address}/team/base@sha256:")
    docker("image", "rm", "--force", name, check=False)


def test_a_registry_that_is_gone_is_told_as_that(registry, engine, small):
    registry.stop()
    try:
        with pytest.raises(WorkFailed) as failed:
            engine.pull(f"{registry.address}/team/small:2", lambda _: None, credentials(registry))
    finally:
        registry.start()

    assert failed.value.code == "registry-not-reachable"
