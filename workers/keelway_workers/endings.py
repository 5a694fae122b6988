"""How a replica ended, in words for the person who wrote its script."""

from __future__ import annotations

import signal

SPECIAL = {
    0: "ended by itself (exit code 0)",
    2: "could not be served with its settings (exit code 2)",
    3: "could not load its script (exit code 3)",
    -signal.SIGKILL: "was killed (SIGKILL), perhaps because memory ran out",
}


def how_it_ended(exit_code: int | None) -> str:
    """What an exit code says; a negative one is the number of the signal that ended the process."""
    if exit_code is None:
        return "ended, with an exit code that nobody saw"
    if exit_code in SPECIAL:
        return SPECIAL[exit_code]
    if exit_code < 0:
        return f"was ended by {_signal_name(-exit_code)}"
    return f"ended with exit code {exit_code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
