"""What a replica needs on a node before it can start, for a deploying worker and the supervisor alike."""

from __future__ import annotations

from functools import partial

from keelway.client import Client
from keelway_workers.cache import BlobCache
from keelway_workers.environments import EnvironmentBuilder
from keelway_workers.node_dir import NodeDir
from keelway_workers.pythons import find_pythons
from keelway_workers.settings import WorkerSettings


class Node:
    """This host: its directory, its interpreters, its cache and its environments."""

    def __init__(self, settings: WorkerSettings, client: Client) -> None:
        self.name = settings.node_name
        self.replica_host = settings.replica_host
        self.replica_network = settings.replica_network
        self.dir = NodeDir(settings.node_dir)
        self.dir.make()
        # Asked for late: running a dozen interpreters takes longer than adopting the replicas that run already.
        self.pythons = partial(find_pythons, settings.pythons)
        self.cache = BlobCache(self.dir, client.blobs.download)
        self.environments = EnvironmentBuilder(self.dir, self.pythons, self.cache.fetch)
