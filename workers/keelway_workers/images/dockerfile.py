"""The Dockerfile of an image: text that follows from what goes in, without a command that a shell would read.

Every word from outside is a JSON string in exec form or has been matched against a pattern; see `checked_steps` in
`keelway.contracts.images` for the one place where people write instructions themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from keelway_workers.images.recipe import (
    APP_ROOT,
    HEALTH_INTERVAL_S,
    HEALTH_START_S,
    HEALTH_TIMEOUT_S,
    PORT,
    USER,
    Recipe,
)

HEALTH_TIMES = f"--interval={HEALTH_INTERVAL_S}s --timeout={HEALTH_TIMEOUT_S}s --start-period={HEALTH_START_S}s"


def written(recipe: Recipe) -> str:
    """The Dockerfile. What changes least comes first, so that an engine finds as much as it can in its cache."""
    lines = [
        "# Made by Keelway. Its packages lie beside it: it needs nothing from anywhere but its base image.",
        f"ARG BASE_IMAGE={recipe.base}",
        "FROM ${BASE_IMAGE}",
        "USER 0",
        *(f"ADD {_words(layer, '/')}" for layer in recipe.layers),
        *_pairs("ENV", recipe.variables),
        *([recipe.steps.strip(), "USER 0"] if recipe.steps.strip() else []),
        *_app(recipe),
        f"WORKDIR {APP_ROOT}",
        f"EXPOSE {PORT}",
        f"USER {USER}",
        f"HEALTHCHECK {HEALTH_TIMES} CMD {_words(*recipe.health)}",
        f"ENTRYPOINT {_words(*recipe.entrypoint)}",
        "CMD []",
        *_pairs("LABEL", recipe.full_labels),
    ]
    return "\n".join(lines) + "\n"


def _app(recipe: Recipe) -> list[str]:
    """The app root, which a script may write to, as it may on a node."""
    if not recipe.app:
        return []
    return [
        f"ADD {_words(recipe.app_folders, '/')}",
        f"COPY --chown={USER} {_words(f'{recipe.app}/', f'{APP_ROOT}/')}",
        *_pairs("ENV", recipe.app_variables),
    ]


def _pairs(instruction: str, pairs: Mapping[str, str]) -> list[str]:
    """One instruction for all, as each one is a layer to an engine."""
    if not pairs:
        return []
    return [" \\\n    ".join([instruction, *(f"{name}={_quoted(value)}" for name, value in sorted(pairs.items()))])]


def _words(*words: str) -> str:
    return json.dumps(words)


def _quoted(text: str) -> str:
    """A word in double quotes, in which the builder replaces nothing."""
    for special in ("\\", '"', "$"):
        text = text.replace(special, f"\\{special}")
    return f'"{text}"'
