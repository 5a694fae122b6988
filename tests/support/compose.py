"""The production shape in containers: docker-compose.yml, started under a name of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import yaml

from tests.support.engine import engine_missing

ROOT = Path(__file__).parents[2]


def compose_client() -> list[str] | None:
    """The command of a compose client on this machine: the engine's plugin, else the older program of that name."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    return None


def missing() -> str | None:
    """Why docker-compose.yml cannot be started here, or None when it can."""
    if compose_client() is None:
        return "no docker compose client on this machine"
    if why := engine_missing():
        return why
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for image in sorted({service["image"] for service in services.values()}):
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode != 0:
            return f"the image {image} is not here: docker-compose.yml is never pulled or built by a test"
    return None


class ComposeStack:
    """docker-compose.yml in a folder of its own, with its own secrets, ports, networks and volumes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = f"keelway-test-{os.getpid()}"
        api, gateway = free_ports(2)
        self.url, self.gateway_url = f"http://127.0.0.1:{api}", f"http://127.0.0.1:{gateway}"
        shutil.copy(ROOT / "docker-compose.yml", folder)
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        subprocess.run([folder / "deploy" / "make-secrets.sh"], check=True)
        (folder / ".env").write_text(
            f"KEELWAY_API_PORT={api}\nKEELWAY_GATEWAY_PORT={gateway}\nKEELWAY_GATEWAY_URL={self.gateway_url}\n"
        )

    def secret(self, name: str) -> str:
        """The text of one of its secrets."""
        return (self.folder / "secrets" / name).read_text().strip()

    def __call__(self, *arguments: str, wait_s: float = 300) -> str:
        """Run a compose command to its end, which must be a good one; what it printed."""
        command = [*(compose_client() or []), "--project-name", self.project, *arguments]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("KEELWAY_", "COMPOSE_"))}
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=wait_s)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, service: str, code: str) -> subprocess.CompletedProcess[str]:
        """Run a line of Python in a container of ours."""
        command = ["docker", "exec", self.container(service), "python", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def container(self, service: str) -> str:
        """The id of the one container of a service."""
        return self("ps", "-q", service).strip()

    def health(self, service: str) -> str:
        """What the engine thinks of a container: `starting`, `healthy`, `unhealthy`."""
        shown = subprocess.run(["docker", "inspect", self.container(service)], capture_output=True, check=True)
        return json.loads(shown.stdout)[0]["State"]["Health"]["Status"]

    def remove(self) -> None:
        """Containers, networks and volumes: nothing is left but the images."""
        self("down", "--volumes", "--timeout", "5")


def free_ports(count: int) -> list[int]:
    """So many loopback ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
