"""Entry scripts that need nothing installed."""

from __future__ import annotations

from pathlib import Path

ECHO = """\
import json


def init():
    print("echo is loaded")


def run(data):
    return json.loads(data)
"""


def gated(gate: Path) -> str:
    """A script whose init() waits until the file `gate` is there."""
    return f"""\
import json, pathlib, time

print("waiting at the gate")


def init():
    while not pathlib.Path({str(gate)!r}).exists():
        time.sleep(0.02)


def run(data):
    return json.loads(data)
"""
