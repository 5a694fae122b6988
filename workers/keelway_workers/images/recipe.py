"""What an image is made of, whoever puts it together: an engine's builder from a Dockerfile, or a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ENV = "/opt/keelway/env"
RUNTIME = "/opt/keelway/runtime"
APP_ROOT = "/var/azureml-app"
PORT = 5001
USER_ID = 10001
USER = f"{USER_ID}:{USER_ID}"
LABEL = "org.keelway"
HEALTH_INTERVAL_S, HEALTH_TIMEOUT_S, HEALTH_START_S = 30, 10, 60


@dataclass(frozen=True)
class Recipe:
    """What an image is made of, as paths of files that come with it.

    `layers` are tars, each unpacked at `/`; `steps` are instructions of people. `app` is a folder that becomes the app
    root, with `app_variables`; `app_folders` is a tar of the folders that are there also when they are empty.
    """

    base: str
    python: str
    layers: Sequence[str]
    labels: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    steps: str = ""
    app: str = ""
    app_folders: str = ""
    app_variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def entrypoint(self) -> list[str]:
        """What runs."""
        return [self.python, "-m", "keelway_runtime"]

    @property
    def health(self) -> list[str]:
        """What asks whether it is well."""
        return [self.python, "-m", "keelway_runtime.health"]

    @property
    def full_labels(self) -> dict[str, str]:
        """The labels by their whole names."""
        return {f"{LABEL}.{name}": value for name, value in sorted(self.labels.items())}
