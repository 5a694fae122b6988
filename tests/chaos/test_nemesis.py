"""Random faults under random work; afterwards nothing that was acknowledged is lost, and only what is wanted runs."""

import hashlib
import os
import random

import pytest

from keelway_standalone.doctor import examine
from tests.chaos.conftest import SHORT
from tests.support.nemesis import Customer, torment
from tests.support.order import in_order
from tests.support.stack import Stack

FOR_S = 40
ANSWERED_S = 90


@pytest.fixture
def victim(tmp_path):
    """A stack for this test alone."""
    stack = Stack(tmp_path, env=SHORT)
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture
def seed():
    seed = int(os.environ.get("NEMESIS_SEED") or random.randrange(10**6))
    print(f"NEMESIS_SEED={seed}")
    return seed


@pytest.fixture
def customers(victim, tmp_path, seed):
    customers = [_customer(victim, tmp_path, number, seed) for number in range(3)]
    yield customers
    for customer in customers:
        customer.user.client.close()


def test_nothing_acknowledged_is_lost_whatever_dies(victim, customers, seed, tmp_path):
    for customer in customers:
        customer.start()

    try:
        torment(victim, seed, FOR_S)
    finally:
        for customer in customers:
            customer.finish(ANSWERED_S)
    _tell(customers)

    in_order(victim, customers[0].user)
    for customer in customers:
        assert customer.mistakes == []
        assert [error for error in customer.failed if error.code != "worker-lost"] == []
        _check_versions(customer, tmp_path / "got")
    assert examine(victim.layout).wrong == []


def _customer(stack, folder, number, seed):
    (folder / f"files-{number}").mkdir()
    customer = Customer(stack, folder / f"files-{number}", number, seed)
    customer.user.deploy(f"standing-{number}")  # builds and fills caches before the first fault
    return customer


def _tell(customers):
    for customer in customers:
        print(customer.name, f"registered {len(customer.acknowledged)} of {customer.tried}, deployed {customer._count}")
        for error in (*customer.failed, *customer.refused, *customer.mistakes):
            print("   ", type(error).__name__, str(error).splitlines()[0])


def _check_versions(customer, folder):
    """Every acknowledged version is there with its bytes; there is no more than one version for each registration."""
    listed = list(customer.user.client.models.versions(customer.name)) if customer.tried else []
    ready = {version.version for version in listed if version.state == "ready"}
    assert customer.acknowledged.keys() <= ready
    assert len(ready) <= customer.tried
    for version, sha256 in customer.acknowledged.items():
        path = customer.user.client.models.download(customer.name, version, folder / customer.name, exist_ok=True)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
