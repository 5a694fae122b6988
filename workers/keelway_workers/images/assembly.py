"""Images put together without a build: the base's layers, which the engine has, ours, and a configuration over both.

What comes out is what the recipe's Dockerfile makes. An engine's builder unpacks and reads every layer several times;
loading them takes it a fraction of that, and the same parts are the same image on every engine. See
docs/decisions/0024. The forms: https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md, and
https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md for the health check and for `manifest.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from keelway_workers.images.archive import CHUNK
from keelway_workers.images.context import ContextTar
from keelway_workers.images.engine import Check, ImageFacts, Say
from keelway_workers.images.oci import BLOBS, as_json
from keelway_workers.images.recipe import (
    APP_ROOT,
    HEALTH_INTERVAL_S,
    HEALTH_START_S,
    HEALTH_TIMEOUT_S,
    PORT,
    USER,
    USER_ID,
    Recipe,
)

# What an image hands on to those that start from it, but for what every recipe sets.
INHERITED = ("Env", "ExposedPorts", "Labels", "Shell", "StopSignal", "Volumes")
A_SECOND_NS = 10**9


def assemble(
    base: ImageFacts, recipe: Recipe, files: Mapping[str, Path], scratch: Path, *, name: str, say: Say, check: Check
) -> dict[str, Path]:
    """The files of a tar that gives an engine the image under this name, if it has the base's layers.

    `files` holds those that the recipe names, by their paths. Steps of people, and triggers of the base, need a build.
    """
    layers = [files[layer] for layer in recipe.layers] + _app_layers(recipe, files, scratch, check)
    digests = []
    for layer in layers:
        say(f"layer {layer.stem}, {layer.stat().st_size:,} bytes")
        digests.append(_digest(layer, check))
    config, manifest = scratch / "config.json", scratch / "manifest.json"
    config.write_text(as_json(configure(base, recipe, [layer.stem for layer in layers], digests)))
    named = [_path(digest) for digest in (*base.layers, *digests)]
    config_path = _path(_digest(config, check))
    manifest.write_text(as_json([{"Config": config_path, "RepoTags": [name], "Layers": named}]))
    ours = dict(zip(named[len(base.layers) :], layers, strict=True))
    return {config_path: config, "manifest.json": manifest, **ours}


def configure(base: ImageFacts, recipe: Recipe, names: Sequence[str], digests: Sequence[str]) -> dict[str, Any]:
    """The image's configuration: what the recipe's Dockerfile says, over what the base hands on.

    `names` and `digests` are those of our layers. It is as old as its base: the time of a build would make every build
    another image.
    """
    inherited = {key: base.config[key] for key in INHERITED if base.config.get(key)}
    made_by = ["the base image"] * len(base.layers) + [f"keelway: {name}" for name in names]
    return {
        "architecture": base.architecture,
        "os": base.os,
        "created": base.created,
        "config": inherited
        | {
            "User": USER,
            "ExposedPorts": {**inherited.get("ExposedPorts", {}), f"{PORT}/tcp": {}},
            "Env": _set(inherited.get("Env", ()), recipe.variables, recipe.app_variables),
            "Entrypoint": recipe.entrypoint,
            "Cmd": [],
            "WorkingDir": APP_ROOT,
            "Healthcheck": {
                "Test": ["CMD", *recipe.health],
                "Interval": HEALTH_INTERVAL_S * A_SECOND_NS,
                "Timeout": HEALTH_TIMEOUT_S * A_SECOND_NS,
                "StartPeriod": HEALTH_START_S * A_SECOND_NS,
            },
            "Labels": {**inherited.get("Labels", {}), **recipe.full_labels},
        },
        "rootfs": {"type": "layers", "diff_ids": [*base.layers, *digests]},
        "history": [{"created": base.created, "created_by": text} for text in made_by],
    }


def _set(inherited: Sequence[str], *instructions: Mapping[str, str]) -> list[str]:
    """Variables as ENV instructions leave them: a known one keeps its place."""
    found = {name: value for name, _, value in (each.partition("=") for each in inherited)}
    for variables in instructions:
        found |= dict(sorted(variables.items()))
    return [f"{name}={value}" for name, value in found.items()]


def _app_layers(recipe: Recipe, files: Mapping[str, Path], scratch: Path, check: Check) -> list[Path]:
    """The app root: what the recipe copies there, or the empty folder that WORKDIR makes."""
    layer = scratch / f"{recipe.app or 'app'}.tar"
    tar = ContextTar(layer, check)
    root = PurePosixPath(APP_ROOT).relative_to("/")
    if not recipe.app:
        tar.folder(str(root))
        tar.close()
        return [layer]
    inside = {PurePosixPath(path).relative_to(recipe.app): path for path in files if path.startswith(f"{recipe.app}/")}
    # The root as well: a layer that names only what is in a folder may bring that folder along as root's.
    folders = {folder for path in inside for folder in path.parents}
    for folder in sorted(folders):
        tar.folder(str(root / folder), USER_ID)
    for path in sorted(inside):
        tar.file(str(root / path), files[inside[path]], USER_ID)
    tar.close()
    return [files[recipe.app_folders], layer]


def _path(digest: str) -> str:
    return f"{BLOBS}/{digest.removeprefix('sha256:')}"


def _digest(path: Path, check: Check) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            check()
            hashed.update(chunk)
    return f"sha256:{hashed.hexdigest()}"
