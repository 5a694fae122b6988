"""What cannot work is refused with what and where: by the SDK as an exception, by the command line with 1 or 2."""

import hashlib
import json

import pytest

from keelway import Client
from keelway.contracts.services import InferenceConfig
from keelway.errors import (
    AlreadyExists,
    BlobNotExpected,
    DigestMismatch,
    EnvironmentInvalid,
    EnvironmentUnsolvable,
    InvalidInput,
    InvalidRequest,
    NotFound,
    PythonNotAvailable,
    Unauthenticated,
    Unreachable,
)
from keelway.inference import InferenceSource
from tests.support.scripts import ECHO

WORKSPACE = "/v1/workspaces/default"


@pytest.fixture
def source(tmp_path):
    (tmp_path / "score.py").write_text(ECHO)
    return InferenceSource(entry_script="score.py", source_directory=tmp_path)


@pytest.fixture
def refused(keelway):
    """Runs a command that must fail, for people and for programs; the problem's document."""

    def run(*arguments, code=1, **options):
        people = keelway(*arguments, **options)
        assert (people.returncode, people.stdout) == (code, ""), people.stderr
        assert "Traceback" not in people.stderr
        program = keelway(*arguments, "--json", **options)
        assert (program.returncode, program.stdout) == (code, ""), program.stderr
        document = json.loads(program.stderr[program.stderr.index("{") :])
        assert document["detail"].splitlines()[0][:60] in people.stderr.replace("\n", " ")
        return document

    return run


def test_what_does_not_exist_is_named(user, refused, source, tmp_path):
    (tmp_path / "ic.json").write_text('{"entryScript": "score.py"}')

    with pytest.raises(NotFound, match="nobody"):
        user.client.services.deploy("unmade", ["nobody:1"], source)
    problem = refused("model", "deploy", "-n", "unmade", "-m", "nobody:1", "--ic", tmp_path / "ic.json")

    assert (problem["type"], "nobody" in problem["detail"]) == ("not-found", True)
    assert refused("model", "show", f"{user.model.name}:99")["type"] == "not-found"
    assert refused("service", "show", "unmade")["type"] == "not-found"
    assert refused("environment", "show", "nobodys")["type"] == "not-found"


def test_requirements_that_exclude_one_another_are_told_in_the_resolvers_words(user, refused, tmp_path):
    (tmp_path / "requirements.txt").write_text("orjson==3.10.0\norjson==3.11.0\n")

    with pytest.raises(EnvironmentUnsolvable, match=r"orjson==3\.10\.0"):
        user.client.environments.register("no-way", pip_requirements=tmp_path / "requirements.txt")
    problem = refused("environment", "register", "no-way", "-r", tmp_path / "requirements.txt")

    assert problem["type"] == "environment-unsolvable"
    assert problem["requirements"] == ["orjson==3.10.0", "orjson==3.11.0"]


def test_a_python_that_no_node_has_is_told_with_those_there_are(user, refused, tmp_path):
    (tmp_path / "conda.yml").write_text("dependencies:\n  - python=3.6.2\n  - pip: [orjson]\n")

    with pytest.raises(PythonNotAvailable, match=r"3\.6") as raised:
        user.client.environments.register("antique", conda_file=tmp_path / "conda.yml")
    problem = refused("environment", "register", "antique", "-f", tmp_path / "conda.yml")

    assert problem["type"] == "python-not-available"
    assert raised.value.fields["available"] == problem["available"]
    assert problem["available"]


def test_an_environment_file_that_is_none_is_refused(user, refused, tmp_path):
    (tmp_path / "conda.yml").write_text("dependencies: 7\n")

    with pytest.raises(EnvironmentInvalid, match="dependencies"):
        user.client.environments.register("odd", conda_file=tmp_path / "conda.yml")

    assert refused("environment", "register", "odd", "-f", tmp_path / "conda.yml")["type"] == "environment-invalid"


def test_bytes_that_are_not_those_announced_are_refused_and_can_be_sent_again(user):
    right, wrong = b"the right bytes", b"the wrong bytes"
    sha256 = hashlib.sha256(right).hexdigest()
    file = {"path": "x.bin", "size_bytes": len(right), "sha256": sha256}
    opened = user.client.request("POST", f"{WORKSPACE}/models/digested/versions", json={"files": [file]}).json()

    with pytest.raises(DigestMismatch) as raised:
        user.client.request("PUT", f"/v1/blobs/{sha256}", content=wrong)
    user.client.request("PUT", f"/v1/blobs/{sha256}", content=right)
    version = f"{WORKSPACE}/models/digested/versions/{opened['version']}"
    user.client.request("POST", f"{version}/commit")

    assert raised.value.fields["expected"] == sha256
    assert raised.value.fields["actual"] == hashlib.sha256(wrong).hexdigest()
    assert user.client.request("GET", f"{version}/files/x.bin").content == right


def test_bytes_that_nobody_announced_are_refused(user):
    with pytest.raises(BlobNotExpected):
        user.client.request("PUT", f"/v1/blobs/{hashlib.sha256(b'x').hexdigest()}", content=b"x")


def test_an_unknown_field_is_named_with_its_place(user):
    file = {"path": "x.bin", "size_bytes": 1, "sha256": "a" * 64}

    with pytest.raises(InvalidRequest, match=r"body\.colour") as raised:
        user.client.request("POST", f"{WORKSPACE}/models/x/versions", json={"files": [file], "colour": "red"})

    assert [error["path"] for error in raised.value.fields["errors"]] == ["body.colour"]


def test_an_unknown_key_of_a_config_is_named_with_its_file(user, refused, tmp_path):
    (tmp_path / "score.py").write_text(ECHO)
    (tmp_path / "ic.json").write_text('{"entryScript": "score.py"}')
    (tmp_path / "dc.json").write_text('{"computeType": "process", "numReplica": 2}')
    (tmp_path / "bad.json").write_text('{"entryScript": "score.py", "entryscript": "x"}')
    deploy = ("model", "deploy", "-n", "unmade", "-m", user.model.id)

    of_deployment = refused(*deploy, "--ic", tmp_path / "ic.json", "--dc", tmp_path / "dc.json")
    of_inference = refused(*deploy, "--ic", tmp_path / "bad.json")

    assert "dc.json: 'numReplica' is no key" in of_deployment["detail"]
    assert "bad.json: 'entryscript' is no key" in of_inference["detail"]


def test_a_missing_file_is_named(user, refused, tmp_path):
    missing = tmp_path / "not-there.pkl"

    with pytest.raises(InvalidInput, match=r"not-there\.pkl does not exist"):
        user.client.models.register("x", missing)

    assert "not-there.pkl" in refused("model", "register", "-n", "x", "-p", missing)["detail"]
    assert "not-there.json" in refused("model", "deploy", "-m", "x:1", "--ic", tmp_path / "not-there.json")["detail"]
    assert "not-there.yml" in refused("environment", "register", "x", "-f", tmp_path / "not-there.yml")["detail"]


def test_a_script_that_is_not_in_its_snapshot_is_refused_with_those_that_are(user):
    inference = InferenceConfig(entry_script="main.py", snapshot=user.snapshot(ECHO), environment=user.environment)

    with pytest.raises(InvalidRequest, match=r"'main\.py' is not in the snapshot; it holds score\.py"):
        user.client.services.deploy("unmade", [user.model], inference)


def test_a_script_that_does_not_parse_never_leaves_the_command_line(user, refused, tmp_path):
    (tmp_path / "score.py").write_text("def run(:\n")
    (tmp_path / "ic.json").write_text('{"entryScript": "score.py"}')

    problem = refused("model", "deploy", "-n", "unmade", "-m", user.model.id, "--ic", tmp_path / "ic.json")

    assert "does not parse" in problem["detail"]
    assert "score.py, line 1" in problem["detail"]


def test_a_name_that_is_taken_is_refused_and_the_first_service_goes_on(user):
    first = user.deploy("taken")

    with pytest.raises(AlreadyExists, match="taken"):
        user.start("taken")

    assert user.scores(first)
    user.delete("taken")


@pytest.mark.parametrize("token", [None, "", "guess", "kw_000000000000_" + "a" * 43])
def test_nobody_is_let_in_without_a_good_token(stack, refused, token):
    with (
        Client(stack.url, token or "", workspace="default", retry_for_s=0) as stranger,
        pytest.raises(Unauthenticated),
    ):
        list(stranger.models.list())

    alone = {"XDG_CONFIG_HOME": "/nonexistent", "KEELWAY_URL": stack.url}
    problem = refused("model", "list", env=alone if token is None else alone | {"KEELWAY_TOKEN": token})
    assert (problem["type"], problem["status"]) == ("unauthenticated", 401)


def test_an_address_where_nobody_is_is_told(refused, stack):
    with Client("http://127.0.0.1:9", "x", workspace="default", retry_for_s=0) as lost, pytest.raises(Unreachable):
        lost.whoami()


@pytest.mark.parametrize(
    "arguments",
    [
        ("model", "register", "-n", "x"),
        ("model", "register", "-n", "x", "-p", "y", "--tag", "no-equals-sign"),
        ("model", "deploy", "-n", "x"),
        ("service", "show"),
        ("service", "explode"),
        ("service", "show", "x", "--loud"),
        ("environment", "register", "x"),
    ],
)
def test_wrong_use_of_a_command_ends_with_two(refused, arguments):
    assert refused(*arguments, code=2)["type"] == "usage"
