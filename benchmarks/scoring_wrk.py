"""Load by wrk: one window of requests at a server."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scoring_running import HOST, Running, pinned, request_headers

MISSING = "wrk is missing: apt-get install wrk. There is no other client: one in Python is slower than what it asks."
TIMEOUT_S = 20
CLOCK_TICK_S = 0.01
SCRIPT = """
wrk.method = "POST"
local file = io.open({body}, "rb")
wrk.body = file:read("*a")
file:close()
{headers}
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Window:
    """What wrk saw in one window. An error is an answer above 399, or none.

    `rate` is per second, `cpu_rate` per second that the server had a core: what it would be if nothing else ran.
    """

    rate: float
    cpu_rate: float
    p50_ms: float
    p99_ms: float
    errors: int


def is_here() -> bool:
    """Whether it is installed."""
    return shutil.which("wrk") is not None


def version() -> str:
    """Of wrk."""
    return subprocess.run(["wrk", "-v"], check=False, capture_output=True, text=True).stdout.split("[")[0].strip()


def load(running: Running, body: str, *, connections: int, seconds: float, core: int, folder: Path) -> Window:
    """Keep so many connections busy for so long, from a core of our own."""
    route = running.server.routes[body]
    headers = request_headers(running.server, route).items()
    script = folder / "wrk.lua"
    lines = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers)
    script.write_text(SCRIPT.format(body=json.dumps(str(running.bodies / route.body)), headers=lines))
    url = f"http://{HOST}:{running.port}{route.path}"
    options = ["-t1", f"-c{connections}", f"-d{seconds:g}s", f"--timeout={TIMEOUT_S}s", "-s", str(script)]
    used_s = running.cpu_s
    with pinned(core):
        done = subprocess.run(
            ["wrk", *options, url], check=True, capture_output=True, text=True, timeout=seconds + 2 * TIMEOUT_S
        )
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    requests, took_us, p50_us, p99_us, errors = (int(word) for word in line.split()[1:])
    used_s = max(running.cpu_s - used_s, CLOCK_TICK_S)
    return Window(requests / (took_us / 1e6), requests / used_s, p50_us / 1000, p99_us / 1000, errors)
