"""`deploy`: a revision runs on a node, is ready, gets its traffic and answers through the gateway."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any

from keelway.contracts.images import ImageResult
from keelway.contracts.services import DeploySpec, PlaceReplicas, Replica, ReplicaState
from keelway_workers.build import build_environment
from keelway_workers.failures import WorkFailed
from keelway_workers.images.operation import build_image
from keelway_workers.layout import digests
from keelway_workers.node import Node
from keelway_workers.operation import Attempt
from keelway_workers.placement import count, watch
from keelway_workers.probe import score
from keelway_workers.settings import WorkerSettings

OPEN_WITHIN_S = 30.0
PROBE_PAUSE_S = 0.05
PROBE_TIMEOUT_S = 2.0
WARM_UP_TIMEOUT_S = 60.0
REVISION = "x-keelway-revision"  # what the runtime says with its health
TRACEBACK = "Traceback (most recent call last):"
SCRIPT_FAILED = '"event":"script failed"'
NOT_YET_LOADING = {ReplicaState.PENDING, ReplicaState.STOPPED}


def deploy(attempt: Attempt, node: Node, settings: WorkerSettings) -> dict[str, Any]:
    """Carry out a DeploySpec. Every part may have been done by an earlier attempt and is then found done."""
    spec = DeploySpec.model_validate(attempt.claim.spec)
    image: ImageResult | None = None
    if spec.base is not None:
        image = build_image(attempt, node, settings, spec.replica.environment, spec.base)
        identity = image.identity
    else:
        identity = build_environment(attempt, node, spec.replica.environment).identity
    attempt.step("Fetching the model")
    attempt.patiently(lambda: node.cache.fetch(digests(spec.replica), check=attempt.check))
    attempt.step(f"Starting {count(spec.num_replicas)}")
    place = PlaceReplicas(epoch=attempt.epoch, node=node.name, image=identity, built=image)
    replicas = _run_replicas(attempt, place, wanted=spec.num_replicas)
    _warm_up(attempt, replicas, spec.warm_up)
    attempt.step("Opening the scoring address")
    attempt.patiently(lambda: attempt.client.operations.activate(attempt.id, attempt.epoch))
    _await_route(attempt, spec.health_uri, spec.replica.revision)
    return {"image": identity, "scoring_uri": spec.scoring_uri}


def _run_replicas(attempt: Attempt, place: PlaceReplicas, *, wanted: int) -> list[Replica]:
    """Place the replicas and wait until each is ready; WorkFailed as soon as one has failed."""
    placed = attempt.patiently(lambda: attempt.client.operations.place(attempt.id, place))
    is_loading = False
    told: dict[str, str] = {}
    for replicas in watch(attempt, placed):
        _tell(attempt, replicas, told)
        for replica in replicas:
            if replica.state is ReplicaState.FAILED:
                raise _failure(replica)
        if len(replicas) < wanted:
            continue
        if not is_loading and not any(replica.state in NOT_YET_LOADING for replica in replicas):
            is_loading = True
            attempt.step("Loading the model")
        if all(replica.state is ReplicaState.READY for replica in replicas):
            return replicas
    raise AssertionError("watching ends with the attempt, by WorkStopped")


def _tell(attempt: Attempt, replicas: list[Replica], told: dict[str, str]) -> None:
    """Say what changed since the last time in the operation's log."""
    for replica in replicas:
        line = f"{replica.name} on {replica.node}: {replica.state}" + (f", {replica.reason}" if replica.reason else "")
        if told.get(replica.name) != line:
            told[replica.name] = line
            attempt.reporter.log(line)


def _failure(replica: Replica) -> WorkFailed:
    how = replica.reason or "ended before it was ready"
    why = script_error(replica.log_tail)
    return WorkFailed(
        "replica-failed",
        f"replica {replica.name} {how}" + (f": {why}" if why else ""),
        details={
            "replica": replica.name,
            "exit_code": replica.exit_code,
            "traceback": cut_traceback(replica.log_tail),
        },
        log_tail=replica.log_tail,
    )


def script_error(lines: list[str]) -> str | None:
    """What the runtime wrote of a script that could not be loaded, e.g. `ValueError: no such feature`."""
    for line in reversed(lines):
        if SCRIPT_FAILED not in line:
            continue
        try:
            event = json.loads(line)
            return f"{event['error']}: {event['message']}"
        except (ValueError, KeyError, TypeError):  # the script printed into it
            return None
    return None


def cut_traceback(lines: list[str]) -> str | None:
    """The last Python traceback in a log, from its first line to the error's own; None when there is none."""
    starts = [number for number, line in enumerate(lines) if line.startswith(TRACEBACK)]
    if not starts:
        return None
    traceback = [lines[starts[-1]]]
    for line in lines[starts[-1] + 1 :]:
        traceback.append(line)
        if line and not line.startswith(" "):
            break
    return "\n".join(traceback)


def _warm_up(attempt: Attempt, replicas: list[Replica], bodies: list[Any]) -> None:
    """Have each replica answer these, so that it is known to score, and its first caller need not wait."""
    if not bodies:
        return
    attempt.step("Warming up")
    for replica in replicas:
        for body in bodies:
            _ask(attempt, replica, json.dumps(body).encode())


def _ask(attempt: Attempt, replica: Replica, body: bytes) -> None:
    attempt.check()
    try:
        status, said = score(replica.url or "", body, WARM_UP_TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        status, said = None, str(error) or type(error).__name__
    if status != http.client.OK:
        raise WorkFailed(
            "warm-up-failed",
            f"replica {replica.name} does not answer its model's sample input: {status or 'no answer'}, {said}",
            details={"replica": replica.name, "status": status, "answer": said},
            log_tail=replica.log_tail,
        )


def _await_route(attempt: Attempt, health_uri: str, revision: str) -> None:
    """Wait until the gateway leads to a replica of this revision that says it is healthy, and to no other any more."""
    ends_at = time.monotonic() + OPEN_WITHIN_S
    seen = "no answer"
    while time.monotonic() < ends_at:
        seen = _probe(health_uri)
        if seen == f"200 {revision}":
            return
        attempt.pause(PROBE_PAUSE_S)
    raise WorkFailed(
        "gateway-not-routing",
        f"the replicas are ready, but the gateway did not lead to them within {OPEN_WITHIN_S:.0f} s",
        details={"health_uri": health_uri, "last_answer": seen},
    )


# The gateway is reached directly: a proxy for the outside world would not know it.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _probe(uri: str) -> str:
    try:
        with _opener.open(uri, timeout=PROBE_TIMEOUT_S) as answer:
            return f"{answer.status} {answer.headers.get(REVISION, '')}".strip()
    except urllib.error.HTTPError as error:
        with error:
            return str(error.code)
    except OSError as error:
        return str(error)
