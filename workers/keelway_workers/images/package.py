"""`package`: models, their script and their environment as an image, or as the folder that one is built from.

Both are made of the same files: those that the Dockerfile names, and what says what they are.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from keelway.contracts.images import SBOM, path_in_registry
from keelway.contracts.packages import PackageKind, PackageResult, PackageSpec
from keelway_workers.images import dockerfile
from keelway_workers.images.builder import ImageBuilder, Plan
from keelway_workers.images.context import ContextTar, walk
from keelway_workers.images.engine import Check, Engine
from keelway_workers.images.operation import fetch_parts, push
from keelway_workers.images.recipe import APP_ROOT, USER_ID, Recipe
from keelway_workers.images.store import store_files, store_layout
from keelway_workers.layout import APP, MODELS, SOURCE, lay_out, lay_out_files, scoring_variables
from keelway_workers.node import Node
from keelway_workers.operation import Attempt
from keelway_workers.settings import WorkerSettings

APP_FOLDERS = "layers/folders.tar"
BASE = "base"
PACKAGES = "keelway/package"  # what the engine calls an image while it is made
README = """\
# {image}

{models}, with the script {script} and all packages it needs. Made by Keelway.

    docker build -t {image} .
    docker run -p 6789:5001 {image}
    curl -s http://127.0.0.1:6789/score -H 'Content-Type: application/json' -d '{{"data": [[...]]}}'

The build takes everything from this folder but the image it starts from, {base}.{make_base}
`--build-arg BASE_IMAGE=...` starts from another one, which must have the same Python, {python}.

* `{app}/{source}`: the script and what lies beside it
* `{app}/{models_folder}`: the models; `model_config_map.json` lists them
* `layers`: the packages of `environment.lock`, which `sbom.cdx.json` lists as CycloneDX
"""


def make_package(attempt: Attempt, node: Node, settings: WorkerSettings) -> dict[str, Any]:
    """Carry out a PackageSpec."""
    spec = PackageSpec.model_validate(attempt.claim.spec)
    with closing(Engine(attempt.check)) as engine, node.dir.scratch() as scratch:
        builder = ImageBuilder(engine, node.dir, settings, attempt)
        attempt.step("Looking for the base image")
        fetch_parts(attempt, node, spec.environment, spec.base)
        plan = builder.plan(spec.environment, spec.base)
        attempt.step("Fetching the models")
        attempt.patiently(lambda: lay_out(scratch / APP, spec, node.cache, check=attempt.check))
        attempt.step("Installing the packages")
        with builder.alone(plan):
            layers = builder.layers(plan)
        recipe = _recipe(spec, plan, layers)
        files = {f"layers/{layer.name}": layer for layer in layers} | _files_of(scratch / APP)
        files[APP_FOLDERS] = _app_folders(scratch / "folders.tar", attempt.check)
        if spec.kind == PackageKind.DOCKERFILE:
            files |= _papers(spec, plan, recipe, scratch) | _base_files(spec, node, scratch / BASE, attempt.check)
            result = _store_folder(attempt, files, plan)
        else:
            result = _store_image(attempt, builder, spec, plan, recipe, files, settings)
        return result.model_dump(mode="json")


def _papers(spec: PackageSpec, plan: Plan, recipe: Recipe, scratch: Path) -> dict[str, Path]:
    """What says how the folder is built, and what is in it."""
    written = {
        "Dockerfile": dockerfile.written(recipe),
        "README.md": _readme(spec, plan),
        "model_config_map.json": _model_map(spec),
        "environment.lock": spec.environment.lock,
        SBOM: plan.sbom(),
    }
    if spec.environment.conda_lock is not None:
        written["environment.conda.lock"] = spec.environment.conda_lock
    for name, text in written.items():
        (scratch / name).write_text(text, encoding="utf-8")
    return {name: scratch / name for name in written}


def _base_files(spec: PackageSpec, node: Node, folder: Path, check: Check) -> dict[str, Path]:
    """What makes the image that it starts from, where no registry has it: an environment's own Dockerfile."""
    folder.mkdir()
    lay_out_files(folder, spec.base.context, node.cache, check=check)
    if spec.base.dockerfile is not None:
        (folder / "Dockerfile").write_text(spec.base.dockerfile, encoding="utf-8")
    return _files_of(folder)


def _files_of(folder: Path) -> dict[str, Path]:
    """All files in a folder by their paths, which begin with its name."""
    return {path.relative_to(folder.parent).as_posix(): path for path in walk(folder) if path.is_file()}


def _app_folders(path: Path, check: Check) -> Path:
    tar = ContextTar(path, check)
    root = PurePosixPath(APP_ROOT).relative_to("/")
    for folder in (root, root / MODELS, root / SOURCE):
        tar.folder(str(folder), USER_ID)
    tar.close()
    return path


def _recipe(spec: PackageSpec, plan: Plan, layers: list[Path]) -> Recipe:
    listens = {name: plan.variables[name] for name in ("KEELWAY_HOST", "KEELWAY_PORT")}
    return Recipe(
        base=plan.base.reference,
        python=plan.python,
        layers=[f"layers/{layer.name}" for layer in layers],
        labels={**plan.labels, "package": spec.id, "models": ",".join(_models(spec))},
        variables=plan.variables,
        steps=spec.extra_docker_file_steps,
        app=APP,
        app_folders=APP_FOLDERS,
        app_variables={
            **spec.environment.environment_variables,
            **listens,
            **scoring_variables(PurePosixPath(APP_ROOT), spec),
            "SERVICE_NAME": spec.image.rpartition(":")[0].rpartition("/")[2],
            "KEELWAY_WORKSPACE": spec.workspace,
        },
    )


def _models(spec: PackageSpec) -> list[str]:
    return [f"{model.name}:{model.version}" for model in spec.models]


def _readme(spec: PackageSpec, plan: Plan) -> str:
    return README.format(
        image=spec.image,
        models=" and ".join(_models(spec)) or "No models",
        script=spec.entry_script,
        base=plan.base.reference,
        make_base=_how_to_make_base(spec, plan),
        python=plan.base.python.minor if plan.base.python else spec.environment.python_version,
        app=APP,
        source=SOURCE,
        models_folder=MODELS,
    )


def _how_to_make_base(spec: PackageSpec, plan: Plan) -> str:
    if spec.base.dockerfile is None and not spec.base.context:
        return ""
    dockerfile_path = shlex.quote(f"{BASE}/{spec.base.context_dockerfile}")
    return f" Make that first:\n\n    docker build -t {plan.base.reference} -f {dockerfile_path} {BASE}\n"


def _model_map(spec: PackageSpec) -> str:
    models = {
        f"{model.name}:{model.version}": {
            "name": model.name,
            "version": model.version,
            "digest": model.digest,
            "path": f"{MODELS}/{model.name}/{model.version}",
            "files": [file.model_dump(mode="json") for file in model.files],
        }
        for model in spec.models
    }
    return json.dumps({"models": models}, indent=2, sort_keys=True) + "\n"


def _store_folder(attempt: Attempt, files: Mapping[str, Path], plan: Plan) -> PackageResult:
    attempt.step("Storing the package")
    stored = store_files(attempt, files)
    return PackageResult(
        base_image=plan.base.reference,
        size_bytes=sum(path.stat().st_size for path in files.values()),
        files=stored.digest,
        archive=stored.archive,
    )


def _store_image(
    attempt: Attempt,
    builder: ImageBuilder,
    spec: PackageSpec,
    plan: Plan,
    recipe: Recipe,
    files: Mapping[str, Path],
    settings: WorkerSettings,
) -> PackageResult:
    """Build the image, keep it, push it where wanted, and leave nothing of it in the engine but what others use."""
    name = f"{PACKAGES}:{spec.id}"
    attempt.step("Building the image")
    try:
        facts = builder.make(plan, recipe, files, name)
        attempt.step("Storing the package")
        stored = store_layout(attempt, builder.engine, builder.node, name, name=spec.image, contents=plan.sbom())
        pushed = None
        if settings.registry:
            attempt.step("Pushing the image")
            pushed = push(attempt, builder.engine, settings, name, path_in_registry(spec.workspace, spec.image))
    finally:
        builder.engine.remove(name)
    return PackageResult(
        image_id=facts.id,
        base_image=plan.base.reference,
        size_bytes=facts.size_bytes,
        files=stored.digest,
        archive=stored.archive,
        pushed=pushed,
    )
