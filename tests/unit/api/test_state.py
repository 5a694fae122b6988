"""What a service is said to be, for all that may be known of it."""

import pytest

from keelway.contracts.services import ReplicaState, ServiceState
from keelway_api.services.state import Seen, judge

READY = (ReplicaState.READY, "")
CRASHED = (ReplicaState.CRASHED, "killed by SIGKILL")


def seen(**more):
    return Seen(
        **{
            "is_deleting": False,
            "step": None,
            "failure": "",
            "has_traffic": True,
            "wanted": 1,
            "replicas": [READY],
            **more,
        }
    )


CASES = {
    "serving": (seen(), ServiceState.HEALTHY, ""),
    "serving while an update goes on": (seen(step="building"), ServiceState.HEALTHY, "building"),
    "deleted": (seen(is_deleting=True), ServiceState.DELETING, "stopping its replicas"),
    "deleted while it is deployed": (
        seen(is_deleting=True, step="building", has_traffic=False),
        ServiceState.DELETING,
        "stopping its replicas",
    ),
    "deployed for the first time": (
        seen(has_traffic=False, step="building", replicas=[]),
        ServiceState.TRANSITIONING,
        "building",
    ),
    "ready but without traffic": (seen(has_traffic=False, step="waiting"), ServiceState.TRANSITIONING, "waiting"),
    "failed": (seen(has_traffic=False, failure="init() raised"), ServiceState.FAILED, "init() raised"),
    "never deployed": (seen(has_traffic=False), ServiceState.FAILED, "it was never deployed"),
    "tried again after a failure": (
        seen(has_traffic=False, step="building", failure="old"),
        ServiceState.TRANSITIONING,
        "building",
    ),
    "crashed": (seen(replicas=[CRASHED]), ServiceState.UNHEALTHY, "killed by SIGKILL"),
    "no reason": (seen(replicas=[(ReplicaState.STARTING, "")]), ServiceState.UNHEALTHY, "a replica is starting"),
    "no replica": (seen(replicas=[]), ServiceState.UNHEALTHY, "it has no replica"),
    "one of two": (
        seen(wanted=2, replicas=[CRASHED, READY]),
        ServiceState.HEALTHY,
        "1 of 2 replicas ready: killed by SIGKILL",
    ),
    "one of two, the other is not there": (
        seen(wanted=2, replicas=[READY]),
        ServiceState.HEALTHY,
        "1 of 2 replicas ready: it has no replica",
    ),
    "silent node": (seen(away_nodes=["n1"]), ServiceState.UNHEALTHY, "node n1 has not been heard of"),
}


@pytest.mark.parametrize(("known", "state", "reason"), CASES.values(), ids=CASES.keys())
def test_a_service_is_judged_by_all_that_is_known(known, state, reason):
    assert judge(known) == (state, reason)


@pytest.mark.parametrize("state", [state for state in ReplicaState if state is not ReplicaState.READY])
def test_no_service_is_healthy_while_none_of_its_replicas_is_ready(state):
    assert judge(seen(replicas=[(state, "")]))[0] is not ServiceState.HEALTHY
