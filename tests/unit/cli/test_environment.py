"""`keelway environment`: what is sent for each option, and the pages of locks."""

import json
import re

import pytest

from tests.unit.sdk import samples
from tests.unit.sdk.wire import Answer

W = "/v1/workspaces/default"
PATH = f"{W}/environments/env/versions"
LOCK = {
    "digest": "d" * 64,
    "python_version": "3.11",
    "platform": "linux-x86_64",
    "requirements": "six==1.17.0\n",
    "packages": [
        {
            "name": "tides",
            "version": "2.0",
            "manager": "conda",
            "source": "https://c.example/here/noarch/tides-2.conda",
        },
        {"name": "six", "version": "1.17.0", "manager": "pip"},
        {"name": "acme", "version": "1.0", "manager": "pip", "source": "acme-1.0-py3-none-any.whl"},
        {"name": "numpy", "version": "2.0.2", "manager": "pip", "marker": "python_full_version < '3.10'"},
    ],
}
DIFF = {
    "name": "env",
    "from_version": 3,
    "to_version": 4,
    "from_python": "3.11",
    "to_python": "3.12",
    "added": [{"name": "six", "version": "1.17.0", "manager": "pip"}],
    "removed": [{"name": "idna", "version": "3.10", "manager": "pip"}],
    "changed": [{"name": "numpy", "manager": "pip", "from_version": "1.26.4", "to_version": "2.0.2"}],
}


@pytest.fixture
def registers(wire):
    wire.on(f"POST {PATH}", Answer(201, samples.environment("env")))
    return wire


def lines(page: str) -> list[str]:
    return [re.sub(" +", " ", line).strip() for line in page.splitlines()]


def sent(wire) -> dict:
    return wire.of("POST", PATH)[0].json


def test_a_definition_is_registered_under_its_own_name(registers, keelway, tmp_path):
    (tmp_path / "conda.yml").write_text("dependencies: [python=3.11]")
    document = {"name": "env", "python": {"condaDependenciesFile": "conda.yml"}, "docker": {"arguments": ["x"]}}
    (tmp_path / "env.json").write_text(json.dumps(document))

    result = keelway("environment", "register", "--file", str(tmp_path / "env.json"), "--real-azureml")

    assert "registered env:1" in result.stdout
    assert sent(registers)["definition"]["python"]["condaDependencies"] == {"dependencies": ["python=3.11"]}
    assert sent(registers)["real_azureml"] is True


def test_what_has_no_effect_is_told_beside_the_answer(wire, keelway, tmp_path):
    wire.on(f"POST {PATH}", Answer(201, samples.environment("env") | {"notes": ["r is kept and has no effect"]}))
    (tmp_path / "env.json").write_text(json.dumps({"name": "env", "r": {}}))

    result = keelway("environment", "register", "--file", str(tmp_path / "env.json"))

    assert "note: r is kept and has no effect" in result.stderr


def test_an_image_and_its_registry_are_sent_and_the_password_is_read_from_a_file(registers, keelway, tmp_path):
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "requirements.txt").write_text("six")
    image = ("--base-image", "r.example/x:1", "--registry", "r.example", "--registry-username", "me")

    password = ("--registry-password-file", str(tmp_path / "password"))
    result = keelway("environment", "register", "env", "-r", str(tmp_path / "requirements.txt"), *image, *password)

    assert sent(registers)["base_image_registry"] == {"address": "r.example", "username": "me", "password": "s3cret"}
    assert "s3cret" not in result.output


def test_the_images_own_python_is_asked_for_by_name(registers, keelway, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM x\n")

    keelway("environment", "register", "env", "--user-managed", "--dockerfile", str(tmp_path / "Dockerfile"))

    said = {"user_managed_dependencies": True, "dockerfile": "FROM x\n", "environment_variables": {}}
    assert sent(registers) == said


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "give one of --file"),
        (("--file", "e.json", "--base-image", "x"), "leave out --base-image"),
        (("-f", "c.yml", "-r", "r.txt"), "one of --conda-file and"),
        (("--user-managed", "--registry", "x"), "--registry-password-file"),
        (("--base-image", "x"), "give one of --file"),
    ],
)
def test_options_that_do_not_fit_together_are_a_usage_error(keelway, options, why):
    result = keelway("environment", "register", "env", *options)

    assert result.exit_code == 2
    assert why in " ".join(result.stderr.replace("│", " ").split())


def test_a_lock_is_a_page_of_packages(wire, keelway):
    wire.on(f"GET {PATH}/latest/lock", Answer(200, LOCK))

    shown = lines(keelway("environment", "lock", "env").stdout)

    assert "packages 4" in shown
    assert "tides 2.0 conda here" in shown
    assert "six 1.17.0 pip" in shown
    assert "acme 1.0 wheel acme-1.0-py3-none-any.whl" in shown
    assert "numpy 2.0.2 pip python_full_version < '3.10'" in shown
    assert json.loads(keelway("environment", "lock", "env", "--json").stdout)["packages"][1]["name"] == "six"


def test_two_locks_differ_in_groups(wire, keelway):
    wire.on(f"GET {PATH}/4/lock/diff", Answer(200, DIFF))

    shown = lines(keelway("environment", "lock", "env", "--diff", "3", "4").stdout)

    assert shown[0] == "env: version 3 to 4"
    assert wire.asked[0].query == "from=3"
    assert shown[shown.index("added") + 2] == "six 1.17.0 pip"
    assert shown[shown.index("removed") + 2] == "idna 3.10 pip"
    assert shown[shown.index("changed") + 2 :] == ["python 3.11 3.12", "numpy 1.26.4 2.0.2 pip"]


def test_two_equal_locks_say_so(wire, keelway):
    same = {**DIFF, "to_python": "3.11", "added": [], "removed": [], "changed": []}
    wire.on(f"GET {PATH}/4/lock/diff", Answer(200, same))

    assert "the same packages" in keelway("environment", "lock", "env", "--diff", "3", "4").stdout


def test_the_definition_is_shown_as_a_file_to_register_again(wire, keelway):
    wire.on(f"GET {PATH}/latest/definition", Answer(200, {"name": "env", "version": "1"}))

    shown = json.loads(keelway("environment", "show", "env", "--definition").stdout)

    assert (shown["name"], shown["docker"]["sharedVolumes"]) == ("env", True)
