"""A `build` of an image: found in the engine or the object store, else built; then stored, and pushed where wanted."""

from __future__ import annotations

from contextlib import closing

from keelway.contracts.images import MAX_CONTEXT_BYTES, BaseSpec, ImageResult, KnownImage
from keelway.contracts.services import EnvironmentSpec
from keelway.errors import NotFound
from keelway_workers.failures import WorkFailed
from keelway_workers.images.builder import BuiltImage, ImageBuilder, Plan
from keelway_workers.images.engine import Engine
from keelway_workers.images.store import load_files, store_image
from keelway_workers.node import Node
from keelway_workers.operation import Attempt
from keelway_workers.settings import WorkerSettings


def build_image(
    attempt: Attempt, node: Node, settings: WorkerSettings, spec: EnvironmentSpec, base: BaseSpec
) -> ImageResult:
    """The image of an environment, with the engine's output in the operation's log."""
    with closing(Engine(attempt.check)) as engine:
        builder = ImageBuilder(engine, node.dir, settings, attempt)
        attempt.step("Looking for the image")
        fetch_parts(attempt, node, spec, base)
        plan = builder.plan(spec, base)
        known = _known(attempt, plan)
        if known is not None and _is_here(attempt, node, engine, builder, plan, known):
            result = known.result
        else:
            built = _built(attempt, builder, plan)
            attempt.step("Storing the image")
            result = store_image(attempt, engine, node.dir, built)
        if settings.registry and result.pushed is None:
            attempt.step("Pushing the image")
            pushed = push(attempt, engine, settings, plan.name, plan.name)
            result = result.model_copy(update={"pushed": pushed})
        return result


def fetch_parts(attempt: Attempt, node: Node, spec: EnvironmentSpec, base: BaseSpec) -> None:
    """Have private wheels and the files of a build context here."""
    size_bytes = sum(file.size_bytes for file in base.context)
    if size_bytes > MAX_CONTEXT_BYTES:
        raise WorkFailed(
            "build-context-too-large",
            f"the build context has {size_bytes:,} bytes; {MAX_CONTEXT_BYTES:,} are taken. Leave data out of it",
            details={"size_bytes": size_bytes, "limit_bytes": MAX_CONTEXT_BYTES},
        )
    wanted = [file.sha256 for file in (*spec.wheels, *base.context)]
    if wanted:
        attempt.patiently(lambda: node.cache.fetch(wanted, check=attempt.check))


def _known(attempt: Attempt, plan: Plan) -> KnownImage | None:
    try:
        return attempt.patiently(lambda: attempt.client.operations.image(attempt.id, plan.identity))
    except NotFound:
        return None


def _is_here(
    attempt: Attempt, node: Node, engine: Engine, builder: ImageBuilder, plan: Plan, known: KnownImage
) -> bool:
    """Have a stored image in this engine; False when what the store has of it is damaged, so that it is built anew."""
    if builder.find(plan):
        attempt.step("Image is cached")
        return True
    attempt.step("Loading the image")
    try:
        attempt.patiently(lambda: node.cache.fetch([file.sha256 for file in known.files], check=attempt.check))
    except WorkFailed as failed:
        if failed.code != "damaged-bytes":
            raise
        attempt.reporter.log(failed.message)
        return False
    load_files(engine, node.dir, known.files, attempt.check, attempt.reporter.log)
    return builder.find(plan) is not None


def _built(attempt: Attempt, builder: ImageBuilder, plan: Plan) -> BuiltImage:
    """The image in this engine, where another workspace may have had it built."""
    if built := builder.find(plan):
        attempt.step("Image is cached")
        return built
    attempt.step("Building the image")
    return builder.ensure(plan)


def push(attempt: Attempt, engine: Engine, settings: WorkerSettings, image: str, name: str) -> str:
    """Send an image to the operator's registry under this name; what it is called there."""
    reference = f"{settings.registry}/{name}"
    engine.tag(image, reference)
    try:
        engine.push(reference, attempt.reporter.log, settings.registry_credentials)
    finally:
        engine.remove(reference)
    return reference
