"""Where models lie on disk: <app root>/azureml-models/<name>/<version>/<one file or folder>."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Iterator

MODELS_DIR = "azureml-models"
TREE_LINES_MAX = 200


class ModelNotFoundException(Exception):  # noqa: N818 - the name scripts catch
    """No model of that name and version lies in this replica."""


def get_model_path(model_name: str, version: int | None = None) -> str:
    """The path of a model's file or folder; without a version, of its newest one.

    Works offline. Falls back to ./<model_name>, so that the same script also runs beside its model.
    Raises ModelNotFoundException, which names the places searched and the models that are there.
    """
    models = app_root() / MODELS_DIR
    folder = _version_folder(models / model_name, version)
    if folder is not None:
        return str(_sole_entry(folder))
    beside = Path(model_name)
    if version is None and beside.exists():
        return str(beside.resolve())
    wanted = model_name if version is None else f"{model_name}:{version}"
    raise ModelNotFoundException(
        f"model {wanted} is neither in {models / model_name} nor at {beside.absolute()}; "
        f"models here: {', '.join(installed(models)) or 'none'}"
    )


def default_model_dir(root: Path) -> Path:
    """What AZUREML_MODEL_DIR means here: the version's folder of the only model, else the folder of all."""
    models = root / MODELS_DIR
    folders = [folder for name in _folders(models) for folder in _versions(name)]
    return folders[0] if len(folders) == 1 else models


def installed(models: Path) -> list[str]:
    """Every model below this folder as name:version."""
    return [f"{name.name}:{folder.name}" for name in _folders(models) for folder in _versions(name)]


def tree(folder: Path) -> list[str]:
    """The files and folders below one, indented, in at most TREE_LINES_MAX lines."""
    if not folder.exists():
        return [f"{folder} (does not exist)"]
    lines = [str(folder), *itertools.islice(_indented(folder, "  "), TREE_LINES_MAX)]
    if len(lines) > TREE_LINES_MAX:
        return [*lines[: TREE_LINES_MAX - 1], "  ..."]
    return lines


def app_root() -> Path:
    """The folder that holds azureml-models: AML_APP_ROOT, else the working directory."""
    return Path(os.environ.get("AML_APP_ROOT") or ".").absolute()


def _version_folder(model: Path, version: int | None) -> Path | None:
    versions = _versions(model)
    if version is None:
        return versions[-1] if versions else None
    return next((folder for folder in versions if int(folder.name) == int(version)), None)


def _sole_entry(folder: Path) -> Path:
    entries = sorted(folder.iterdir())
    if len(entries) != 1:
        names = ", ".join(entry.name for entry in entries) or "nothing"
        raise ModelNotFoundException(f"{folder} must hold exactly one file or folder, it holds {names}")
    return entries[0]


def _versions(model: Path) -> list[Path]:
    return sorted((folder for folder in _folders(model) if folder.name.isdigit()), key=lambda folder: int(folder.name))


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def _indented(folder: Path, indent: str) -> Iterator[str]:
    for entry in sorted(folder.iterdir()):
        is_folder = entry.is_dir()
        yield f"{indent}{entry.name}{'/' if is_folder else ''}"
        if is_folder and not entry.is_symlink():
            yield from _indented(entry, indent + "  ")
