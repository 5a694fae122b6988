"""Where conda channels are: their names are the users', their addresses the operator's."""

from __future__ import annotations

from collections.abc import Sequence

from keelway_api.settings import ApiSettings

UNLESS_NAMED = ("conda-forge",)
DEFAULTS = "defaults"
DEFAULTS_URL = "https://repo.anaconda.com/pkgs/main"


def addresses(names: Sequence[str], settings: ApiSettings) -> dict[str, str]:
    """The address of each channel; of conda-forge when none is named."""
    own = settings.channel_addresses
    base = str(settings.conda_channel_base).rstrip("/")
    return {
        name: own.get(name) or (DEFAULTS_URL if name == DEFAULTS else f"{base}/{name}")
        for name in names or UNLESS_NAMED
    }
