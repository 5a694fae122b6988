"""Entry scripts that cannot work: the reason reaches whoever deployed, and nothing else suffers."""

import json
import re
import time
from datetime import datetime

import pytest

from keelway.errors import NotFound
from tests.support.running import replicas
from tests.support.stack import until

HELLO = "print('hello from the script')\n"
BROKEN = {
    "syntax error": (HELLO + "def run(:\n", "SyntaxError"),
    "no run": (HELLO + "def init():\n    pass\n", "has no function run()"),
    "no init": (HELLO + "def run(data):\n    pass\n", "has no function init()"),
    "init raises": (HELLO + "def init():\n    raise ValueError('weights are gone')\ndef run(data): ...\n", "are gone"),
    "import missing": (HELLO + "import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'"),
    "exit in init": (HELLO + "import sys\ndef init():\n    sys.exit(7)\ndef run(data): ...\n", "SystemExit: 7"),
}

ENDLESS = """\
import os, time


def init():
    if os.fork() == 0:
        os.setsid()  # out of the replica's process group
    while True:
        time.sleep(1)


def run(data):
    return data
"""


@pytest.fixture
def broken(user, request):
    """A service whose deployment began; deleted in the end."""
    handle = user.start("broken", BROKEN[request.param][0])
    yield handle
    user.delete("broken")


@pytest.mark.parametrize(("broken", "reason"), [(name, BROKEN[name][1]) for name in BROKEN], indirect=["broken"])
def test_a_script_that_cannot_be_served_fails_its_operation_with_the_whole_story(user, stack, broken, reason):
    failure = user.failure(broken)

    operation = user.operation(broken)
    assert (operation.state, operation.attempts) == ("failed", 1)
    assert operation.error.code == "replica-failed"
    assert operation.error.details["exit_code"] == 3
    assert reason in operation.error.message
    if "has no function" not in reason:  # that is our own finding, not an error in the script's code
        assert reason in operation.error.details["traceback"]
    if "SyntaxError" not in reason:  # such a script never says anything
        assert "hello from the script" in operation.error.log_tail
    assert 0 <= _seconds_after_death(operation) < 5
    for told in ("(replica-failed)", "exit code: 3", reason, *operation.error.log_tail[-3:]):
        assert told in str(failure)
    service = user.client.services.get("broken")
    assert (service.state, service.reason) == ("failed", operation.error.message)
    until(lambda: not replicas(stack, "broken"), "nothing runs")


def _seconds_after_death(operation):
    """Between what the replica said last and the operation's end."""
    said = [
        datetime.fromisoformat(m[1]) for m in map(re.compile('^{"time":"([^"]+)"').match, operation.error.log_tail) if m
    ]
    return (operation.ended_at - max(said)).total_seconds()


def test_a_script_that_crashes_its_interpreter_is_told_by_its_signal(user, stack):
    handle = user.start("crasher", "import os\ndef init():\n    os.abort()\ndef run(data): ...\n")

    failure = user.failure(handle)

    assert failure.details["exit_code"] == -6
    assert "SIGABRT" in failure.message
    until(lambda: not replicas(stack, "crasher"), "nothing runs")
    user.delete("crasher")


def test_after_a_failure_the_model_deploys_well_under_the_same_name(user, stack):
    user.failure(user.start("second-chance", BROKEN["init raises"][0]))
    user.delete("second-chance")
    with pytest.raises(NotFound):
        user.client.services.get("second-chance")

    service = user.deploy("second-chance")

    assert service.state == "healthy"
    assert user.scores(service)
    assert len(replicas(stack, "second-chance")) == 1
    user.delete("second-chance")


def test_the_command_line_tells_the_failure_to_people_and_to_programs(keelway, user, tmp_path):
    (tmp_path / "score.py").write_text(BROKEN["init raises"][0])
    (tmp_path / "ic.json").write_text('{"entryScript": "score.py"}')
    arguments = ["model", "deploy", "-m", user.model.id, "--ic", tmp_path / "ic.json"]

    people = keelway(*arguments, "-n", "for-people")
    program = keelway(*arguments, "-n", "for-programs", "--json")

    assert (people.returncode, people.stdout) == (1, "")
    for told in (
        "error: ",
        "(replica-failed)",
        "exit code: 3",
        "ValueError: weights are gone",
        "hello from the script",
    ):
        assert told in people.stderr
    assert "keelway/cli" not in people.stderr
    assert (program.returncode, program.stdout) == (1, "")
    document = json.loads(program.stderr[program.stderr.index("{") :])
    assert (document["code"], document["details"]["exit_code"]) == ("replica-failed", 3)
    assert "ValueError: weights are gone" in document["details"]["traceback"]
    assert keelway.json("operation", "show", document["operation"])["state"] == "failed"
    assert keelway("operation", "watch", document["operation"]).returncode == 1
    for name in ("for-people", "for-programs"):
        user.delete(name)


def test_an_init_without_end_is_cancelled_and_leaves_nothing(keelway, user, stack):
    handle = user.start("endless", ENDLESS)
    user.until_step(handle, "Loading the model")

    asked = time.monotonic()
    cancelled = keelway.json("operation", "cancel", handle.operation_id, "--yes")
    operation = user.ended(handle)

    assert cancelled["state"] in {"cancelling", "cancelled"}
    assert operation.state == "cancelled"
    assert time.monotonic() - asked < 8
    until(lambda: not replicas(stack, "endless"), "the replica is stopped")
    service = user.client.services.get("endless")
    assert (service.state, service.reason) == ("failed", "the deployment was cancelled")
    user.delete("endless")
