"""Images and packages of a stack whose operator has a registry: pushed there, and pulled by whoever is told how."""

from __future__ import annotations

import pytest

from keelway.inference import InferenceSource
from tests.support import private_index
from tests.support.images import built, docker, ensure_base, inspect
from tests.support.registry_process import PASSWORD, USERNAME
from tests.support.stack import Stack
from tests.support.user import User

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def index():
    """The operator's package index, which wants another password."""
    with private_index.serving() as url:
        yield url


@pytest.fixture(scope="module")
def stack(registry, index, tmp_path_factory):
    """A stack of these tests' own, whose settings name the registry."""
    stack = Stack(
        tmp_path_factory.mktemp("pushing"),
        env={
            "KEELWAY_REGISTRY": f"{registry.address}/ours",
            "KEELWAY_REGISTRY_USERNAME": USERNAME,
            "KEELWAY_REGISTRY_PASSWORD": PASSWORD,
            "KEELWAY_REGISTRY_PULL_USERNAME": USERNAME,
            "KEELWAY_REGISTRY_PULL_PASSWORD": PASSWORD,
            "KEELWAY_BASE_IMAGE": ensure_base(),
            "UV_INDEX": index,
        },
    )
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def user(stack, tmp_path_factory):
    """Somebody with the SDK."""
    user = User(stack, tmp_path_factory.mktemp("user"))
    user.client.environments.register("pushed", pip_requirements=["humanize==4.11.0", private_index.PACKAGE])
    with user.client:
        yield user


@pytest.fixture
def pull(tmp_path):
    """pull(image, address, username, password): pulled as a docker of somebody else would; its id."""

    def pull(image, address, username, password):
        known = ("--config", str(tmp_path))
        docker(*known, "login", "--username", username, "--password", password, address)
        docker("image", "rm", "--force", image, check=False)
        docker(*known, "pull", image)
        return inspect(image)["Id"]

    return pull


@pytest.fixture
def source(tmp_path):
    """A script that says what it got."""
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(raw): return raw\n")
    return InferenceSource(entry_script="score.py", source_directory=tmp_path, environment="pushed:1")


def test_an_image_is_pushed_and_pulled_again(user, registry, pull):
    operation, steps, log = built(user, "pushed:1")

    assert operation.state == "succeeded", operation.error
    assert steps[-1] == "Pushing the image"
    pushed = operation.result["pushed"]
    assert pushed.startswith(f"{registry.address}/ours/keelway/environment:")
    assert user.client.images.get(operation.result["identity"]).pushed == pushed
    assert PASSWORD not in log
    assert docker("images", "--quiet", pushed) == ""
    assert pull(pushed, registry.address, USERNAME, PASSWORD) == operation.result["image_id"]


def test_a_package_is_pulled_with_what_its_registry_answer_says(user, registry, pull, source):
    package = user.client.packages.create([user.model], source, image_name="team/echo", image_label="1").wait(200)

    there = user.client.packages.registry(package.id)
    assert there.image == package.pushed == f"{registry.address}/ours/default/team/echo:1"
    assert (there.address, there.username) == (registry.address, USERNAME)
    assert pull(there.image, there.address, there.username, there.password) == package.image_id
    assert PASSWORD not in repr(there)


def test_a_registry_that_is_gone_fails_the_build_and_a_later_one_pushes(user, registry, source):
    registry.stop()
    try:
        handle = user.client.packages.create([user.model], source, image_name="team/late", image_label="1")
        failed = user.client.operations.wait(handle.operation, 200)
    finally:
        registry.start()
    assert (failed.state, failed.error.code) == ("failed", "registry-not-reachable")
    assert registry.address in user.client.packages.get(handle.id).reason

    again = user.client.packages.create([user.model], source, image_name="team/late", image_label="1").wait(200)

    assert again.pushed == f"{registry.address}/ours/default/team/late:1"


def test_no_secret_of_the_operator_is_in_an_image_a_package_a_log_or_the_database(user, stack, source, tmp_path):
    operation, _, log = built(user, "pushed:1")
    assert operation.state == "succeeded", operation.error
    package = user.client.packages.create([user.model], source, kind="dockerfile", image_name="team/folder").wait(200)
    user.client.images.download(operation.result["identity"], tmp_path / "image.tar")
    user.client.packages.save(package.id, tmp_path / "folder")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(private_index.PACKAGE.encode() in path.read_bytes() for path in files)  # and not compressed
    places = {str(path): path.read_bytes() for path in [*files, *stack.layout.logs.iterdir(), stack.output]}
    places |= {"log": log.encode(), **rows(stack)}

    found = [
        (secret, place)
        for secret in (PASSWORD, private_index.PASSWORD)
        for place, data in places.items()
        if secret.encode() in data
    ]

    assert found == []


def rows(stack):
    """All rows of the database as text, by table."""
    with stack.postgres.connect() as connection:
        named = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {
            name: connection.execute(f'SELECT coalesce(string_agg(t::text, chr(10)), chr(32)) FROM "{name}" t')
            .fetchone()[0]
            .encode()
            for (name,) in named
        }
