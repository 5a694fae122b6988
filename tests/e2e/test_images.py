"""Images of environments on a real container engine: built once, stored, loaded again, run without Keelway."""

from __future__ import annotations

import json
import subprocess
import tarfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from keelway.contracts.locks import packages_of
from keelway_workers.images.engine import Engine
from tests.support.conda_channel import make_channel, python_of
from tests.support.engine import engine_missing
from tests.support.images import built, docker, ensure_base, forget, inspect
from tests.support.stack import until
from tests.support.wheels import file_name, wheel

pytestmark = pytest.mark.timeout(600)

OURS = "humanize==4.12.0"  # no other file has an image with this lock and this base built
PROBE = "import os, sys, humanize; print(humanize.__file__, os.getuid(), sys.prefix)"


@pytest.fixture(scope="module")
def base():
    """The base image of these tests."""
    if why := engine_missing():
        pytest.skip(why)
    return ensure_base()


@pytest.fixture
def environment(user, base):
    """environment(name, *requirements, **more): a registered one that starts from the base image."""

    def register(name, *requirements, **more):
        return user.client.environments.register(name, pip_requirements=list(requirements), base_image=base, **more)

    return register


@pytest.fixture(scope="module")
def image(user, base):
    """An image that was built, and how: (result, steps, log)."""
    forget("imaged:1")
    user.client.environments.register("imaged", pip_requirements=[OURS], base_image=base)
    operation, steps, log = built(user, "imaged:1")
    assert operation.state == "succeeded", operation.error
    return operation.result, steps, log


def test_an_image_is_built_from_the_lock_and_runs_as_nobody_of_importance(image):
    result, steps, log = image

    assert steps == ["Looking for the image", "Building the image", "Storing the image"]
    assert "Loaded image: keelway/environment:" in log
    found = inspect(result["name"])
    said = found["Config"]
    assert found["Id"] == result["image_id"]
    assert said["User"] == "10001:10001"
    assert said["Healthcheck"]["Test"][:2] == ["CMD", "/opt/keelway/env/bin/python"]
    assert said["Labels"]["org.keelway.environment"] == "imaged:1"
    assert said["Labels"]["org.keelway.identity"] == result["identity"]
    assert len(said["Labels"]["org.keelway.lock"]) == 64
    assert said["Labels"]["org.keelway.runtime"].startswith("keelway_runtime-")
    printed = docker(
        "run", "--rm", "--network", "none", "--entrypoint", "/opt/keelway/env/bin/python", result["name"], "-c", PROBE
    )
    assert printed.split()[1:] == ["10001", "/opt/keelway/env"]
    assert printed.startswith("/opt/keelway/env/lib/")


def test_its_bytecode_is_there_and_taken(image):
    says = "import humanize, sys; print(humanize.__cached__, humanize.__spec__.loader.__class__.__name__)"
    name = image[0]["name"]

    ran = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "/opt/keelway/env/bin/python", name, "-v", "-c", says],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    cached = ran.stdout.split()[0]
    assert f"# {cached} matches" in ran.stderr or f"# code object from '{cached}'" in ran.stderr
    assert "humanize" in cached


def test_the_same_again_builds_nothing(user, image):
    again, steps, _ = built(user, "imaged:1")

    assert (again.state, steps) == ("succeeded", ["Looking for the image", "Image is cached"])
    assert again.result == image[0]


def test_a_private_wheel_with_the_same_version_and_other_bytes_is_another_image(user, base, tmp_path):
    printed = []
    for number in (1, 2):
        path = tmp_path / f"{number}" / file_name("ours")
        path.parent.mkdir()
        path.write_bytes(
            wheel(
                "ours",
                text=f"Metadata-Version: 2.1\nName: ours\nVersion: 1.0\nSummary: {number}\n",
                module=f"version = {number}\n",
            )
        )
        user.client.environments.register("private", wheels=[path], base_image=base)
        operation, _, _ = built(user, f"private:{number}")
        assert operation.state == "succeeded", operation.error
        name = operation.result["name"]
        command = ["-c", "import ours; print(ours.version)"]
        printed.append(docker("run", "--rm", "--entrypoint", "/opt/keelway/env/bin/python", name, *command))

    assert printed == ["1", "2"]


def test_another_name_with_the_same_lock_is_the_same_image(user, image, environment):
    environment("imaged-too", OURS)

    again, steps, _ = built(user, "imaged-too:1")

    assert steps == ["Looking for the image", "Image is cached"]
    assert again.result["image_id"] == image[0]["image_id"]


def test_two_requests_at_once_build_once(user, environment):
    forget("twice:1")
    environment("twice", "humanize==4.12.2")
    first, second = (user.client.environments.build("twice:1", target="docker") for _ in range(2))

    ended = [user.client.operations.wait(each.id, 240) for each in (first, second)]

    assert [each.state for each in ended] == ["succeeded"] * 2, [each.error for each in ended]
    logs = ["".join(user.client.operations.logs(each.id)) for each in ended]
    assert sum("Loaded image:" in log for log in logs) == 1
    assert ended[0].result["image_id"] == ended[1].result["image_id"]


def test_programs_of_one_image_run_at_once(base):
    def run(_):
        with closing(Engine(lambda: None)) as engine:
            return engine.run(base, ["python3", "-c", "import time; time.sleep(1); print('ran')"])

    with ThreadPoolExecutor(2) as pool:
        assert [ran.output for ran in pool.map(run, range(2))] == ["ran\n"] * 2
    assert docker("ps", "--all", "--quiet", "--filter", "label=org.keelway.work") == ""


def test_an_engine_that_lost_it_loads_it_from_the_store(user, image):
    docker("image", "rm", "--force", image[0]["image_id"])

    again, steps, log = built(user, "imaged:1")

    assert (again.state, steps) == ("succeeded", ["Looking for the image", "Loading the image"])
    assert inspect(image[0]["name"])["Id"] == image[0]["image_id"]
    assert "Step " not in log


def test_it_is_saved_as_a_tar_that_an_engine_loads(keelway, image, tmp_path):
    to = tmp_path / "image.tar"

    saved = json.loads(keelway("image", "save", image[0]["identity"][:10], "-o", to, "--json").stdout)

    assert to.stat().st_size == saved["size_bytes"] == image[0]["archive"]["size_bytes"]
    with tarfile.open(to) as archive:
        names = archive.getnames()
    assert {"oci-layout", "index.json", "manifest.json", "sbom.cdx.json"} <= set(names)
    docker("image", "rm", "--force", image[0]["image_id"])
    docker("load", "-i", str(to))
    assert inspect(image[0]["name"])["Id"] == image[0]["image_id"]
    refused = keelway("image", "save", image[0]["identity"], "-o", to)
    assert refused.returncode == 1
    assert "exists already" in refused.stderr


def test_its_sbom_lists_exactly_the_lock(user, keelway, image):
    lock = user.client.environments.lock("imaged:1")

    document = json.loads(keelway("image", "sbom", image[0]["identity"]).stdout)

    listed = sorted((each["name"], each["version"]) for each in document["components"])
    assert listed == sorted((each.name, each.version) for each in packages_of(lock.requirements))
    assert document["bomFormat"] == "CycloneDX"


def test_images_are_listed_and_shown(keelway, image):
    listed = keelway("image", "list", "-e", "imaged").stdout
    also = keelway("image", "list", "-e", "imaged-too").stdout
    shown = keelway("image", "show", image[0]["identity"]).stdout

    assert image[0]["identity"][:12] in listed
    assert image[0]["identity"][:12] in also
    assert image[0]["image_id"] in shown
    assert image[0]["archive"]["sha256"] in shown


def test_the_layers_hold_no_secret_of_the_index(user, image, tmp_path):
    docker("save", "-o", str(tmp_path / "saved.tar"), image[0]["name"])

    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image[0]["name"])

    assert "RUN" not in history.replace("TRUNC", "")
    assert "http://" not in history
    assert "https://" not in history


def test_a_dockerfile_makes_the_base(user, base, tmp_path):
    word = uuid.uuid4().hex  # so that no engine has made it before
    text = f"FROM {base}\nRUN echo {word} > /made-by-hand\n"
    user.client.environments.register(
        "own-base", pip_requirements=["humanize==4.12.3"], dockerfile=_file(tmp_path / "Dockerfile", text)
    )

    operation, _, log = built(user, "own-base:1")

    assert operation.state == "succeeded", operation.error
    assert f"Step 2/2 : RUN echo {word}" in log
    name = operation.result["name"]
    assert docker("run", "--rm", "--entrypoint", "/bin/cat", name, "/made-by-hand") == word


def test_triggers_of_the_base_are_run_by_a_build(user, base, tmp_path):
    text = f"FROM {base}\nONBUILD RUN echo triggered > /triggered\n"
    user.client.environments.register(
        "triggered", pip_requirements=["humanize==4.12.3"], dockerfile=_file(tmp_path / "Dockerfile", text)
    )
    forget("triggered:1")

    operation, _, log = built(user, "triggered:1")

    assert operation.state == "succeeded", operation.error
    assert "Successfully tagged keelway/environment:" in log
    name = operation.result["name"]
    assert docker("run", "--rm", "--entrypoint", "/bin/cat", name, "/triggered") == "triggered"


def _file(path, text):
    path.write_text(text)
    return path


def test_user_managed_dependencies_run_the_image_s_own_python(user, base):
    user.client.environments.register("theirs", user_managed_dependencies=True, base_image=base)

    operation, _, _ = built(user, "theirs:1")

    assert operation.state == "succeeded", operation.error
    said = inspect(operation.result["name"])["Config"]
    assert said["Entrypoint"][0].startswith("/usr/bin/python3")
    assert "PYTHONPATH=/opt/keelway/runtime" in said["Env"]


def test_conda_brings_its_python_into_the_image(stack, user, keelway, base, tmp_path):
    python = python_of(base)
    make_channel(stack.layout.root.parent / "whole", python)
    dependencies = f"[python={python[0].rpartition('.')[0]}, 'tides=1.0', {{pip: [humanize==4.12.3]}}]"
    text = f"channels: [whole]\ndependencies: {dependencies}\n"
    user.client.environments.register("tidal", conda_file=_file(tmp_path / "conda.yml", text), base_image=base)

    operation, _, log = built(user, "tidal:1")

    assert operation.state == "succeeded", operation.error
    assert " + tides" in log
    code = "import humanize, sys, tides; print(tides.version, humanize.__version__, sys.prefix, sys.executable)"
    ran = docker("run", "--rm", "--entrypoint", "python", operation.result["name"], "-c", code)
    assert ran == "1.0 4.12.3 /opt/keelway/env /opt/keelway/env/bin/python"
    document = json.loads(keelway("image", "sbom", operation.result["identity"]).stdout)
    assert {"tides", "python", "humanize"} <= {each["name"] for each in document["components"]}


@pytest.mark.parametrize(
    ("dockerfile", "code", "says"),
    [
        ("FROM scratch\nCOPY Dockerfile /\n", "base-image-unsuitable", "does not have Python 3"),
        ("FROM {base}\nRUN exit 7\n", "image-build-failed", "returned a non-zero code: 7"),
        ("FROM {base}\nRUN gcc x.c\n", "image-build-failed", "gcc: not found"),
        ("FROM 127.0.0.1:9/no/such:1\n", "image-build-failed", "127.0.0.1:9"),
    ],
)
def test_a_base_that_cannot_be_had_says_why(user, base, tmp_path, dockerfile, code, says):
    text = dockerfile.format(base=base)
    user.client.environments.register(
        "bad-base", pip_requirements=["humanize==4.12.3"], dockerfile=_file(tmp_path / "Dockerfile", text)
    )

    operation, _, _ = built(user, "bad-base:latest")

    assert operation.state == "failed"
    assert operation.error.code == code
    assert says in "\n".join([operation.error.message, *operation.error.log_tail])


def test_an_image_that_no_registry_has_says_so(user, base):
    user.client.environments.register(
        "nowhere", pip_requirements=["humanize==4.12.3"], base_image="127.0.0.1:9/no/such:1"
    )

    operation, _, _ = built(user, "nowhere:1")

    assert operation.state == "failed"
    assert operation.error.code == "registry-not-reachable"
    assert "127.0.0.1:9/no/such:1" in operation.error.message


def test_a_default_base_that_cannot_be_had_says_how_to_have_another(user, base):
    user.client.environments.register("by-default", pip_requirements=["humanize==4.12.3"], python_version="3.11")

    operation, _, _ = built(user, "by-default:1")

    assert operation.error.code == "registry-not-reachable"
    assert operation.error.message.startswith("127.0.0.1:9/python:3.11 cannot be had")
    assert "KEELWAY_BASE_IMAGE" in operation.error.message


def test_a_build_that_is_cancelled_ends_and_leaves_no_container(user, base, tmp_path):
    marker = "sleep 461"
    user.client.environments.register(
        "endless",
        pip_requirements=["humanize==4.12.3"],
        dockerfile=_file(tmp_path / "Dockerfile", f"FROM {base}\nRUN {marker}\n"),
    )
    operation = user.client.environments.build("endless:1", target="docker")
    for text in user.client.operations.logs(operation.id, follow=True):
        if "Running in" in text:
            break

    user.client.operations.cancel(operation.id)

    ended = user.client.operations.wait(operation.id, 30)
    assert ended.state == "cancelled"
    until(lambda: marker not in docker("ps", "--no-trunc", "--format", "{{.Command}}"), "the engine has stopped it")
