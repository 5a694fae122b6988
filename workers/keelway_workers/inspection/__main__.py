"""`python -I -m keelway_workers.inspection FD`: the inspecting child, which talks to its parent over a socket."""

from __future__ import annotations

import io
import socket
import sys

from keelway_workers.inspection import channel, kinds, limits


def main() -> None:
    """Look at one blob after another until there are no more."""
    parent = socket.socket(fileno=int(sys.argv[1]))
    limits.confine()
    while (size := channel.next_size(parent)) is not None:
        limits.begin_one()
        file = io.BufferedReader(channel.Remote(parent, size), channel.BLOCK)
        channel.give(parent, kinds.inspect(file, size).as_json())


if __name__ == "__main__":
    main()
