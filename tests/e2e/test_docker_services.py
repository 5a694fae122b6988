"""Services in containers on a real engine: deployed, shut in, watched, started again, removed."""

from __future__ import annotations

import contextlib
import json
import signal
import urllib.request
from types import SimpleNamespace

import pytest

from keelway.contracts.services import ContainerResources, DeploymentConfig
from keelway.errors import OperationFailed
from keelway.inference import InferenceSource
from keelway_standalone.addresses import load
from keelway_standalone.doctor import examine
from tests.support.engine import engine_missing
from tests.support.images import docker, ensure_base
from tests.support.stack import until

pytestmark = pytest.mark.timeout(300)

SCRIPT = """
import ctypes, json, os, socket, threading
from azureml.core.model import Model


def init():
    global word
    with open(Model.get_model_path("contained")) as file:
        word = file.read()
    print("the word is read", flush=True)


def threads():
    # As many as there may be, and how many that were.
    done, started = threading.Event(), []
    try:
        while len(started) < 2000:
            started.append(threading.Thread(target=done.wait))
            started[-1].start()
    except RuntimeError:
        return len(started) - 1
    finally:
        done.set()


def run(raw):
    asked = json.loads(raw)
    try:
        came = eval(asked.get("code", "None"))
    except OSError as error:
        came = error.strerror
    return {"word": word, "greeting": os.environ.get("GREETING"), "code": came}
"""


@pytest.fixture(scope="module")
def base():
    """The base image of these tests."""
    if why := engine_missing():
        pytest.skip(why)
    return ensure_base()


@pytest.fixture(scope="module")
def folder(user, base, tmp_path_factory):
    """A script's folder, with its model and its environment registered."""
    folder = tmp_path_factory.mktemp("contained")
    (folder / "score.py").write_text(SCRIPT)
    (folder / "word.txt").write_text("keel")
    user.client.models.register("contained", folder / "word.txt")
    user.client.environments.register(
        "contained",
        pip_requirements=["humanize==4.12.3"],
        base_image=base,
        environment_variables={"GREETING": "good day"},
    )
    return folder


def source(folder):
    return InferenceSource(entry_script="score.py", source_directory=folder, environment="contained:1")


def config(**resources):
    return DeploymentConfig(compute_type="docker", container_resources=ContainerResources(**resources))


def container_of(service):
    """The engine's name of a service's one container."""
    names = docker("ps", "--filter", f"label=org.keelway.service={service}", "--format", "{{.Names}}").split()
    assert len(names) == 1
    return names[0]


def ask(service, **body):
    request = urllib.request.Request(
        service.scoring_uri, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def delete(user, name):
    operation = user.client.services.delete(name)
    assert user.client.operations.wait(operation.id, 60).state == "succeeded"


@pytest.fixture(scope="module")
def deployed(user, folder):
    """A service in one container, and how its deployment went."""
    handle = user.client.services.deploy(
        "contained", ["contained:1"], source(folder), config(memory_gb=0.3, cpu=0.2, cpu_limit=1.5)
    )
    service = handle.wait(240)
    operation = user.client.operations.get(service.operation)
    yield SimpleNamespace(
        service=service, steps=[step.name for step in operation.steps], name=container_of("contained")
    )
    delete(user, "contained")


def test_a_service_in_a_container_answers_through_the_gateway(deployed):
    assert deployed.service.state == "healthy"
    assert deployed.service.target == "docker"
    assert "Looking for the image" in deployed.steps
    assert ask(deployed.service) == {"word": "keel", "greeting": "good day", "code": None}


def test_its_container_is_shut_in(deployed):
    found = json.loads(docker("inspect", deployed.name))[0]
    settings = found["HostConfig"]

    assert settings["ReadonlyRootfs"]
    assert settings["CapDrop"] == ["ALL"]
    assert settings["SecurityOpt"] == ["no-new-privileges"]
    assert settings["PidsLimit"] == 512
    assert settings["Memory"] == settings["MemorySwap"] == int(0.3 * 1024**3)
    assert (settings["NanoCpus"], settings["CpuShares"]) == (1_500_000_000, 204)
    assert not settings["Privileged"]
    assert settings["LogConfig"]["Config"] == {"max-file": "2", "max-size": "10m"}
    assert {(mount["Destination"], mount["RW"]) for mount in found["Mounts"]} == {
        ("/var/azureml-app/azureml-models", False),
        ("/var/azureml-app/source", False),
    }
    assert found["Config"]["User"] == "10001:10001"
    assert found["Config"]["Healthcheck"]["Test"] == ["NONE"]
    assert not [each for each in found["Config"]["Env"] if "TOKEN" in each or "SECRET" in each or "PASSWORD" in each]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("os.getuid()", 10001),
        ("open('/etc/x', 'w')", "Read-only file system"),
        ("open(os.environ['AZUREML_MODEL_DIR'] + '/word.txt', 'a')", "Permission denied"),
        ("open('/var/azureml-app/source/score.py', 'a')", "Permission denied"),
        ("open('made-here', 'w').write('abc')", 3),  # its own folder, as on a node, but gone with the container
        ("os.setuid(0)", "Operation not permitted"),
        ("os.path.exists('/var/run/docker.sock')", False),
        ("ctypes.CDLL(None).unshare(0x10000000)", -1),  # a user namespace, and capabilities in it
        ("ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None)", -1),
        (
            "[line.split()[1] for line in open('/proc/self/status')"
            " if line.startswith(('CapEff', 'NoNewPrivs', 'Seccomp:'))]",
            ["0000000000000000", "1", "2"],
        ),
        ("os.listdir('/var/azureml-app/azureml-models')", ["contained"]),
    ],
)
def test_a_script_can_do_little_in_it(deployed, code, says):
    assert ask(deployed.service, code=code)["code"] == says


def test_it_starts_no_more_than_its_share_and_answers_on(deployed):
    started = ask(deployed.service, code="threads()")["code"]

    assert 100 < started < 512
    assert ask(deployed.service)["word"] == "keel"


def test_one_that_takes_all_its_memory_is_started_again(deployed):
    with contextlib.suppress(OSError):  # its worker is killed, or all of it
        ask(deployed.service, code="len(bytearray(1 << 30))")

    def answers():
        with contextlib.suppress(OSError):
            return ask(deployed.service)["word"] == "keel"

    until(answers, "it answers again", 30)


def test_it_reaches_no_service_of_ours_and_nothing_outside(deployed, stack):
    gateway = docker("network", "inspect", "keelway-replicas", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    addresses = load(stack.layout.addresses)
    ports = [addresses.port, addresses.gateway_port, *addresses.s3.values()]  # Postgres and Redis have sockets alone
    for host, port in [*((gateway, port) for port in ports), ("1.1.1.1", 443)]:
        code = f"socket.socket().connect_ex(('{host}', {port}))"
        tried = f"socket.setdefaulttimeout(2) or {code}"
        assert ask(deployed.service, code=tried)["code"] != 0, (host, port)


def test_what_it_prints_is_its_log_also_after_the_supervisor_was_killed(deployed, user, stack):
    until(lambda: "the word is read" in "".join(user.client.services.logs("contained")), "its log has arrived")
    stack.kill("supervisor")

    ask(deployed.service, code="print('after the kill', flush=True)")

    until(lambda: "after the kill" in "".join(user.client.services.logs("contained")), "the log goes on", 30)
    assert container_of("contained") == deployed.name
    assert user.client.services.get("contained").replicas[0].restarts == 0


def test_a_container_that_is_killed_is_there_again_and_says_how_it_ended(deployed, user):
    before = docker("inspect", "--format", "{{.Id}}", deployed.name)
    restarts = user.client.services.get("contained").replicas[0].restarts

    docker("kill", "--signal", "KILL", deployed.name)

    def is_back():
        replica = user.client.services.get("contained").replicas[0]
        return replica.state == "ready" and replica.restarts == restarts + 1

    until(is_back, "it is ready again", 20)
    assert docker("inspect", "--format", "{{.Id}}", container_of("contained")) != before
    until(lambda: ask(deployed.service)["word"] == "keel", "it answers", 20)


def test_a_container_that_somebody_removed_is_there_again(deployed, user):
    docker("rm", "--force", container_of("contained"))

    until(lambda: docker("ps", "--quiet", "--filter", "label=org.keelway.service=contained"), "it is back", 20)
    until(lambda: user.client.services.get("contained").replicas[0].state == "ready", "it is ready", 20)
    assert ask(deployed.service)["word"] == "keel"


def test_a_script_that_needs_more_memory_than_it_has_fails_with_that_said(user, folder):
    (folder / "greedy.py").write_text("def init():\n    b'x' * (1 << 30)\n\ndef run(raw):\n    return raw\n")
    greedy = InferenceSource(entry_script="greedy.py", source_directory=folder, environment="contained:1")

    handle = user.client.services.deploy("greedy", [], greedy, config(memory_gb=0.2))
    with pytest.raises(OperationFailed) as failed:
        handle.wait(120)

    assert "ran out of the memory" in str(failed.value)
    delete(user, "greedy")


def test_an_image_that_a_service_runs_in_is_not_deleted(deployed, keelway, user):
    identity = user.client.services.get("contained").revisions[0].image

    refused = keelway("image", "delete", identity, "--yes")

    assert refused.returncode == 1
    assert "services/contained" in refused.stderr


def test_an_engine_that_lost_the_image_loads_it_from_the_store(deployed, user, stack):
    identity = user.client.services.get("contained").revisions[0].image
    image = user.client.images.get(identity)

    stack.kill("supervisor", signal.SIGSTOP)  # or it were faster
    try:
        docker("rm", "--force", container_of("contained"))
        docker("image", "rm", "--force", image.image_id)
    finally:
        stack.kill("supervisor", signal.SIGCONT)

    until(lambda: docker("ps", "--quiet", "--filter", "label=org.keelway.service=contained"), "it is back", 60)
    until(lambda: user.client.services.get("contained").replicas[0].state == "ready", "it is ready", 20)
    assert docker("image", "inspect", "--format", "{{.Id}}", image.name) == image.image_id


def test_containers_of_others_are_left_alone_and_a_stray_of_ours_is_removed(deployed, base):
    node = json.loads(docker("inspect", container_of("contained")))[0]["Config"]["Labels"]["org.keelway.node"]
    ours = docker(
        "run", "-d", "--label", f"org.keelway.node={node}", "--label", "org.keelway.replica=none", base, "sleep", "99"
    )
    theirs = docker("run", "-d", "--label", "org.keelway.node=another", base, "sleep", "99")
    try:
        until(lambda: docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"id={ours}") == "", "it is gone", 60)
        assert docker("inspect", "--format", "{{.State.Running}}", theirs) == "true"
    finally:
        docker("rm", "--force", ours, theirs, check=False)


def test_doctor_counts_containers_as_replicas(deployed, stack, base):
    node = json.loads(docker("inspect", container_of("contained")))[0]["Config"]["Labels"]["org.keelway.node"]
    assert examine(stack.layout).wrong == []
    stack.kill("supervisor", signal.SIGSTOP)  # or it would put in order what follows
    labels = ("--label", f"org.keelway.node={node}", "--label", "org.keelway.replica=stray")
    stray = docker("run", "-d", *labels, base, "sleep", "99")
    docker("kill", container_of("contained"))
    try:
        wrong = examine(stack.layout).wrong
    finally:
        docker("rm", "--force", stray)
        stack.kill("supervisor", signal.SIGCONT)

    name = deployed.service.replicas[0].name
    assert [each for each in wrong if each.startswith("content: replica")] == [
        f"content: replica {name} should run and does not",
        "content: replica stray runs and should not",
    ]


def test_a_deleted_service_leaves_no_container(user, folder):
    handle = user.client.services.deploy("short", ["contained:1"], source(folder), config())
    handle.wait(120)

    delete(user, "short")

    assert docker("ps", "--all", "--quiet", "--filter", "label=org.keelway.service=short") == ""


def test_several_replicas_share_the_requests(user, folder):
    several = DeploymentConfig(compute_type="docker", num_replicas=2)
    service = user.client.services.deploy("several", ["contained:1"], source(folder), several).wait(120)

    hosts = {ask(service, code="socket.gethostname()")["code"] for _ in range(8)}

    assert len(hosts) == 2
    delete(user, "several")
