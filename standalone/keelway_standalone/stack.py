"""All processes of one data directory: started side by side, watched, and stopped in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from keelway_standalone.addresses import Addresses, remove_sockets
from keelway_standalone.child import Child, Program
from keelway_standalone.control import Control
from keelway_standalone.errors import Refused, StartFailed
from keelway_standalone.gateway import Gateway
from keelway_standalone.layout import Layout
from keelway_standalone.logs import reason, rotate, size, tail
from keelway_standalone.postgres import Postgres
from keelway_standalone.processes import Processes, described
from keelway_standalone.redis import Redis
from keelway_standalone.s3 import S3
from keelway_standalone.secrets import Secrets
from keelway_standalone.status import Status
from keelway_standalone.strays import everything, kill_and_wait

ROTATE_EVERY_S = 10.0
MIGRATION_LIMIT_S = 300.0
MIGRATION_TRIES = 3
# One step after the other: who uses something goes before what it uses. Graces add up to less than 15 s.
STOP_ORDER = (("supervisor", "worker"), ("api",), ("gateway", "redis", "s3"), ("postgres",))


class Stack:
    """The processes of `keelway up`."""

    def __init__(self, layout: Layout, addresses: Addresses, secrets: Secrets, say: Callable[[str], None]) -> None:
        self._layout = layout
        self._addresses = addresses
        self._say = say
        self._processes = Processes()
        self._status = Status(layout.status, addresses)
        self._children: dict[str, Child] = {}
        self._postgres = Postgres(layout, addresses, secrets)
        self._redis = Redis(layout, addresses, secrets)
        self._s3 = S3(layout, addresses, secrets)
        self._gateway = Gateway(layout, addresses)
        self._control = Control(layout, addresses, secrets, database_url=self._postgres.url, redis_url=self._redis.url)

    async def start(self, *, services_only: bool = False) -> None:
        """Start everything and wait until all of it works. Raises what the first that cannot start raised.

        `services_only` leaves out Keelway's own processes.
        """
        self._note()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_gateway())
                redis = group.create_task(self._start_redis())
                group.create_task(self._start_s3())
                postgres = group.create_task(self._start_postgres())
                if not services_only:
                    group.create_task(self._start_control(postgres, redis))
        except* (StartFailed, Refused, OSError) as failures:
            raise failures.exceptions[0] from None
        self._status.state = "ready"
        self._note()

    async def watch(self) -> None:
        """Keep the logs small, for ever; children watch over themselves."""
        while True:
            await asyncio.sleep(ROTATE_EVERY_S)
            for child in self._children.values():
                rotate(child.program.log)

    async def stop(self) -> None:
        """Stop everything in order, and leave no process behind."""
        self._status.state = "stopping"
        self._note()
        for names in STOP_ORDER:
            await asyncio.gather(*(self._children[name].stop() for name in names if name in self._children))
        self.clean()

    def kill(self) -> None:
        """End everything at once."""
        for child in self._children.values():
            child.kill()
        self._processes.kill_all()

    def clean(self) -> None:
        """Remove what may be left when the children are gone: strays, replicas, sockets."""
        kill_and_wait(everything(self._layout))
        self._s3.remove_sockets()
        remove_sockets(self._addresses)
        self._status.state = "stopped"
        self._note()

    async def _start_gateway(self) -> None:
        await self._begin(self._gateway.program()).ready()

    async def _start_redis(self) -> None:
        await self._begin(self._redis.program()).ready()

    async def _start_s3(self) -> None:
        await self._begin(self._s3.program()).ready()
        await self._s3.settle(self._processes)

    async def _start_postgres(self) -> None:
        await self._postgres.make(self._processes)
        await self._begin(self._postgres.program()).ready()
        await asyncio.to_thread(self._postgres.settle)

    async def _start_control(self, postgres: asyncio.Task[None], redis: asyncio.Task[None]) -> None:
        await postgres
        await self._migrate()
        api = self._begin(self._control.api())
        await redis
        own = [api, self._begin(self._control.worker(self._redis.is_heard)), self._begin(self._control.supervisor())]
        await asyncio.gather(*(child.ready() for child in own))

    async def _migrate(self) -> None:
        argv, env = self._control.migrations()
        log = self._layout.log("migrations")
        since = size(log)
        code = -signal.SIGKILL
        for _ in range(MIGRATION_TRIES):
            code = await self._processes.run(argv, env=env, cwd=self._layout.node, log=log, limit_s=MIGRATION_LIMIT_S)
            if code == 0:
                self._say("migrations done")
                return
            if code != -signal.SIGKILL:
                break
        lines = tail(log, since=since)
        raise StartFailed("migrations", reason(lines) or described(code), lines)

    def _begin(self, program: Program) -> Child:
        child = Child(program, self._processes, changed=self._note, say=self._say)
        self._children[program.name] = child
        child.start()
        return child

    def _note(self) -> None:
        self._status.write(self._children.values())
