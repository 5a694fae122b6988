"""Packages on real engines: an image, and a folder that becomes one on an engine that never saw Keelway."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import urllib.request

import pytest

from keelway.contracts.locks import packages_of
from keelway.inference import InferenceSource
from tests.support.api import wait_until
from tests.support.engine import engine_missing
from tests.support.images import docker, ensure_base, inspect
from tests.support.own_engine import OwnEngine

pytestmark = pytest.mark.timeout(600)

SCRIPT = """
import json, os, humanize
from azureml.core.model import Model


def init():
    global word
    with open(Model.get_model_path("word")) as file:
        word = file.read()


def run(raw):
    with open("written", "w") as file:  # as a script may on a node
        file.write(word)
    said = os.environ.get("GREETING"), os.environ.get("STEP")
    return {"word": word, "number": humanize.intcomma(json.loads(raw)["number"]), "said": said}
"""
ANSWER = {"word": "keel", "number": "12,345", "said": ["good day $HOME", "taken"]}
STEPS = """# what the company wants in every image
RUN echo policy > /etc/company \\
    && echo done
ENV STEP=taken
"""
ASK = (
    "import urllib.request; "
    "print(urllib.request.urlopen(urllib.request.Request('http://127.0.0.1:5001/score', "
    "b'{\"number\": 12345}', {'Content-Type': 'application/json'})).read().decode())"
)


@pytest.fixture(scope="module")
def base():
    """The base image of these tests."""
    if why := engine_missing():
        pytest.skip(why)
    return ensure_base()


@pytest.fixture(scope="module")
def config(user, base, tmp_path_factory):
    """inferenceconfig.json of a model that is a word, in its source directory; the environment is `packaged:1`."""
    folder = tmp_path_factory.mktemp("packaged")
    (folder / "score.py").write_text(SCRIPT)
    (folder / "steps").write_text(STEPS)
    (folder / "word.txt").write_text("keel")
    user.client.models.register("word", folder / "word.txt")
    user.client.environments.register(
        "packaged",
        pip_requirements=["humanize==4.12.3"],
        base_image=base,
        environment_variables={"GREETING": "good day $HOME"},
    )
    (folder / "inferenceconfig.json").write_text(
        json.dumps({"entryScript": "score.py", "extraDockerfileSteps": "steps"})
    )
    return folder / "inferenceconfig.json"


@pytest.fixture(scope="module")
def package(keelway, config):
    """An image package, as the command made it."""
    options = ("-m", "word:1", "--ic", config, "-e", "packaged", "--image-name", "team/word", "--image-label", "one")
    return json.loads(keelway("model", "package", *options, "--json", wait_s=300).stdout)


@pytest.fixture
def score():
    """score(image): the answer of a container of it, which is a plain one."""
    started = []

    def ask(image):
        started.append(docker("run", "-d", "-p", "127.0.0.1::5001", image))
        address = docker("port", started[0], "5001/tcp")
        request = urllib.request.Request(
            f"http://{address}/score", b'{"number": 12345}', {"Content-Type": "application/json"}
        )

        def answered():
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return json.load(answer)
            except OSError as error:
                if getattr(error, "code", 503) != 503:
                    raise
                return None  # not there yet, or it says itself that it is not ready

        return wait_until(answered, "the container answers", 60)

    yield ask
    for container in started:
        docker("rm", "--force", container)


def test_an_image_package_answers_as_a_plain_container(keelway, package, score):
    assert (package["state"], package["kind"], package["models"]) == ("ready", "image", ["word:1"])
    docker("image", "rm", "--force", "team/word:one", check=False)

    pulled = keelway("package", "pull", package["id"])

    assert "docker run -p 6789:5001 team/word:one" in pulled.stdout
    assert score("team/word:one") == ANSWER
    assert inspect("team/word:one")["Id"] == package["image_id"]


def test_nothing_of_it_stays_on_the_engine_that_made_it(package):
    assert docker("images", "--quiet", f"keelway/package:{package['id']}") == ""


def test_it_has_what_people_added_and_still_runs_as_nobody_of_importance(keelway, package):
    keelway("package", "pull", package["id"])
    said = inspect("team/word:one")["Config"]

    assert docker("run", "--rm", "--entrypoint", "/bin/cat", "team/word:one", "/etc/company") == "policy"
    assert said["User"] == "10001:10001"
    assert said["Labels"]["org.keelway.models"] == "word:1"
    assert "AZUREML_MODEL_DIR=/var/azureml-app/azureml-models/word/1" in said["Env"]


def test_it_is_saved_as_a_tar_with_its_digest(keelway, package, tmp_path):
    keelway("package", "save", package["id"], "-o", tmp_path / "word.tar")

    assert (tmp_path / "word.tar").stat().st_size == package["archive"]["size_bytes"]
    with tarfile.open(tmp_path / "word.tar") as archive:
        assert {"oci-layout", "index.json", "manifest.json", "sbom.cdx.json"} <= set(archive.getnames())


def test_its_sbom_lists_exactly_the_lock(user, keelway, package):
    document = json.loads(keelway("package", "sbom", package["id"]).stdout)

    lock = user.client.environments.lock("packaged:1")
    listed = sorted((each["name"], each["version"]) for each in document["components"])
    assert listed == sorted((each.name, each.version) for each in packages_of(lock.requirements))


def test_it_is_listed_shown_and_keeps_its_model(keelway, package):
    assert package["id"] in keelway("package", "list", "-m", "word:1").stdout
    shown = keelway("package", "show", "team/word:one").stdout
    refused = keelway("model", "delete", "word:1", "--yes")

    assert package["archive"]["sha256"] in shown
    assert refused.returncode == 1
    assert f"packages/{package['id']}" in refused.stderr


@pytest.fixture(scope="module")
def folder(keelway, config, tmp_path_factory):
    """A package that an image is built from, saved under a umask that closes everything to others."""
    to = tmp_path_factory.mktemp("saved") / "word"
    before = os.umask(0o077)
    try:
        made = keelway(
            "model",
            "package",
            "-m",
            "word:1",
            "--ic",
            config,
            "-e",
            "packaged",
            "--dockerfile",
            "-o",
            to,
            wait_s=300,
        )
    finally:
        os.umask(before)
    assert "docker build -t package:" in made.stdout, made.stderr
    return to


def test_a_folder_holds_what_the_reference_says_and_says_what_it_is(folder):
    assert {path.name for path in folder.iterdir()} == {
        *("Dockerfile", "README.md", "azureml-app", "environment.lock", "layers", "model_config_map.json"),
        "sbom.cdx.json",
    }
    assert (folder / "azureml-app/azureml-models/word/1/word.txt").read_text() == "keel"
    assert (folder / "azureml-app/source/score.py").read_text() == SCRIPT
    listed = json.loads((folder / "model_config_map.json").read_text())["models"]["word:1"]
    assert listed["path"] == "azureml-models/word/1"
    assert "docker build -t package:" in (folder / "README.md").read_text()


def test_a_folder_is_built_and_answers_on_an_engine_that_never_saw_keelway(
    folder, base, keelway, package, tmp_path_factory
):
    if why := OwnEngine.missing():
        pytest.skip(why)
    docker("save", "-o", str(folder.parent / "base.tar"), base)
    engine = OwnEngine(tmp_path_factory.mktemp("e"))
    engine.start()
    try:
        engine.docker("load", "-i", str(folder.parent / "base.tar"))
        engine.docker("build", "--network", "none", "-t", "theirs:1", str(folder))
        engine.docker("run", "-d", "--network", "none", "--name", "theirs", "theirs:1")

        answer = wait_until(lambda: _asked(engine), "the container answers", 60)
        theirs = json.loads(engine.docker("image", "inspect", "theirs:1"))[0]["Config"]
    finally:
        engine.remove()

    assert json.loads(answer) == ANSWER
    keelway("package", "pull", package["id"])
    ours = inspect("team/word:one")["Config"]
    same = ("Entrypoint", "Cmd", "User", "ExposedPorts", "WorkingDir", "Healthcheck")
    assert {name: theirs[name] for name in same} == {name: ours[name] for name in same}
    assert {each for each in theirs["Env"] if "SERVICE_NAME" not in each} == {
        each for each in ours["Env"] if "SERVICE_NAME" not in each
    }


def _asked(engine):
    command = ["docker", "--host", engine.host, "exec", "theirs", "/opt/keelway/env/bin/python", "-c", ASK]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()


def test_a_folder_whose_base_was_made_of_a_context_says_how_to_make_it(keelway, user, base, config, tmp_path):
    context = tmp_path / "context"
    (context / "sub").mkdir(parents=True)
    (context / "made").write_text("by hand")
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY made /made\n")
    user.client.environments.register("on-own-base", pip_requirements=["humanize==4.12.3"], build_context=context)
    to = tmp_path / "saved"

    made = keelway(
        *("model", "package", "-m", "word:1", "--ic", config, "-e", "on-own-base"), "--dockerfile", "-o", to, wait_s=300
    )

    assert made.returncode == 0, made.stderr
    command = next(line for line in (to / "README.md").read_text().splitlines() if "-f base/Dockerfile base" in line)
    name = command.split()[3]
    docker("image", "rm", "--force", name)
    subprocess.run(command.strip(), shell=True, cwd=to, check=True, capture_output=True)
    docker("build", "-t", "on-own-base:tests", str(to))
    assert docker("run", "--rm", "--entrypoint", "/bin/cat", "on-own-base:tests", "/made") == "by hand"


def test_a_step_that_fails_fails_the_package_with_what_it_wrote(user, config):
    source = InferenceSource(
        entry_script="score.py", source_directory=config.parent, environment="packaged:1", extra_docker_file_steps="bad"
    )
    (config.parent / "bad").write_text("RUN echo such a pity && exit 7\n")

    handle = user.client.packages.create(["word:1"], source, image_name="bad")
    operation = user.client.operations.wait(handle.operation, 200)

    assert operation.state == "failed"
    assert "returned a non-zero code: 7" in operation.error.message
    assert "such a pity" in "".join(handle.logs())
    assert user.client.packages.get(handle.id).reason == operation.error.message


def test_a_folder_is_not_pulled_and_a_package_that_is_not_there_is_named(keelway, user, folder):
    newest = next(each for each in user.client.packages.list(model="word:1") if each.kind == "dockerfile")

    pulled = keelway("package", "pull", newest.id)
    shown = keelway("package", "show", "none:1")

    assert (pulled.returncode, shown.returncode) == (1, 1)
    assert "docker build" in pulled.stderr
    assert "none:1" in shown.stderr


def test_a_deleted_package_frees_its_model(keelway, user, config):
    user.client.models.register("short-lived", config.parent / "word.txt")
    source = InferenceSource(entry_script="score.py", source_directory=config.parent, environment="packaged:1")
    made = user.client.packages.create(["short-lived:1"], source, kind="dockerfile").wait(200)

    assert keelway("package", "delete", made.id, "--yes").returncode == 0
    assert keelway("model", "delete", "short-lived:1", "--yes").returncode == 0
