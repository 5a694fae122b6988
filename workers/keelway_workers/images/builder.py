"""Images of environments: found, or built once per identity, however many ask at once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.markers import Marker

from keelway.contracts.environments import lock_digest
from keelway.contracts.images import BaseSpec
from keelway.contracts.locks import LockedFile, locked_files
from keelway.contracts.services import EnvironmentSpec
from keelway_workers.environments import LOCK_PAUSE_S, Identity, runtime_wheel
from keelway_workers.failures import WorkFailed
from keelway_workers.images import dockerfile, sbom, tree
from keelway_workers.images.archive import pieces
from keelway_workers.images.assembly import assemble
from keelway_workers.images.base import Base, Bases, Operator
from keelway_workers.images.bytecode import Bytecode
from keelway_workers.images.context import ContextTar
from keelway_workers.images.engine import Engine, ImageFacts
from keelway_workers.images.recipe import APP_ROOT, ENV, PORT, RUNTIME, Recipe
from keelway_workers.node_dir import Locked, NodeDir, lock, used
from keelway_workers.operation import Attempt
from keelway_workers.settings import WorkerSettings

FORM = "2"  # how images are made of what goes in; another form is another image
ENVIRONMENTS = "keelway/environment"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Plan:
    """An environment's image before it is there: its base, and the identity that follows from all that goes in."""

    spec: EnvironmentSpec
    base: Base
    identity: str

    @property
    def name(self) -> str:
        """What the engine calls the image."""
        return f"{ENVIRONMENTS}:{self.identity[:40]}"

    @property
    def python(self) -> str:
        """The interpreter that runs, in the image."""
        if self.base.is_user_managed and self.base.python is not None:
            return self.base.python.executable
        return f"{ENV}/bin/python"

    @property
    def variables(self) -> dict[str, str]:
        """What the image sets for everything that runs in it."""
        found = {
            "AML_APP_ROOT": APP_ROOT,
            "KEELWAY_HOST": "0.0.0.0",  # noqa: S104 - of its container
            "KEELWAY_PORT": str(PORT),
            "PYTHONUNBUFFERED": "1",
            "HOME": "/tmp",  # noqa: S108 - the user has no entry in the image's passwd, and may write nowhere else
            "USER": "keelway",
        }
        if self.base.is_user_managed:
            return found | {"PYTHONPATH": RUNTIME}
        path = next((each for each in self.base.facts.config.get("Env") or () if each.startswith("PATH=")), "")
        rest = path.removeprefix("PATH=") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return found | {"PATH": f"{ENV}/bin:{rest}"}

    @property
    def labels(self) -> dict[str, str]:
        """What the image says of itself."""
        return {
            "environment": f"{self.spec.name}:{self.spec.version}",
            "identity": self.identity,
            "lock": self.spec.lock_digest,
            "runtime": runtime_wheel().name,
        }

    def recipe(self, layers: list[str]) -> Recipe:
        """How the image is made."""
        return Recipe(
            base=self.base.reference,
            python=self.python,
            layers=layers,
            labels=self.labels,
            variables=self.variables,
        )

    def packages(self) -> list[LockedFile]:
        """The packages of its lock that its Python gets."""
        found = locked_files(self.spec.lock, self.spec.conda_lock)
        return [each for each in found if self._is_installed(each)]

    def _is_installed(self, locked: LockedFile) -> bool:
        python = self.base.python
        if locked.package.marker is None or python is None:
            return True
        where = {"python_version": python.minor, "python_full_version": python.version, "sys_platform": "linux"}
        return Marker(locked.package.marker).evaluate({**where, "platform_machine": python.machine, "os_name": "posix"})

    def sbom(self) -> str:
        """What the image holds."""
        return sbom.written(
            f"{self.spec.name}:{self.spec.version}", self.identity, self.packages(), runtime=runtime_wheel().name
        )


@dataclass(frozen=True)
class BuiltImage:
    """An image that the engine has."""

    plan: Plan
    facts: ImageFacts
    is_new: bool


class ImageBuilder:
    """Builds images of environments for one attempt of an operation."""

    def __init__(self, engine: Engine, node: NodeDir, settings: WorkerSettings, attempt: Attempt) -> None:
        self.engine, self.node = engine, node
        self._attempt = attempt
        self._operator = operator(settings)

    def plan(self, spec: EnvironmentSpec, base: BaseSpec) -> Plan:
        """Find the base, and what the image will be. WorkFailed when the base cannot be had or does not fit."""
        if lock_digest(spec.lock, spec.conda_lock) != spec.lock_digest:
            raise WorkFailed("damaged-bytes", f"the lock of {spec.name}:{spec.version} does not have its digest")
        wanted = "" if base.is_user_managed else spec.python_version
        bases = Bases(self.engine, self.node, self._operator, self._attempt.reporter.log, self._attempt.check)
        found = bases.find(base, wanted)
        return Plan(spec, found, _identify(spec, found))

    def find(self, plan: Plan) -> BuiltImage | None:
        """The image when the engine has it."""
        facts = self.engine.image(plan.name)
        return BuiltImage(plan, facts, is_new=False) if facts else None

    def ensure(self, plan: Plan) -> BuiltImage:
        """The image, built first when the engine does not have it. Private wheels are in the node's cache."""
        while (built := self.find(plan)) is None:
            with self._alone(plan) as is_ours:
                if is_ours and self.find(plan) is None:
                    return BuiltImage(plan, self._build(plan), is_new=True)
        return built

    def layers(self, plan: Plan) -> list[Path]:
        """The tars of the image's layers in their order, made first when this node does not have them.

        Only for who holds the identity's lock.
        """
        place = used(self.node.images / plan.identity)
        if not place.is_dir():
            self.node.sweep_images()
            with self.node.scratch() as scratch:
                bytecode = Bytecode(self.engine, self.node, plan.base.id, self._attempt.check)
                tree.install(plan.spec, plan.base, scratch / "trees", self._work(), bytecode)
                self._pack(scratch / "trees", scratch / "layers")
                (scratch / "layers").rename(place)
        return sorted(place.iterdir())

    def _pack(self, trees: Path, layers: Path) -> None:
        layers.mkdir(mode=0o700)
        for folder in sorted(trees.iterdir()):
            layer = ContextTar(layers / f"{folder.name}.tar", self._attempt.check)
            layer.contents(folder)
            layer.close()

    @contextmanager
    def alone(self, plan: Plan) -> Iterator[None]:
        """Hold the identity's lock, waiting for it as long as the attempt may."""
        while True:
            with self._alone(plan) as is_ours:
                if is_ours:
                    yield
                    return

    @contextmanager
    def _alone(self, plan: Plan) -> Iterator[bool]:
        self._attempt.check()
        try:
            with lock(self.node.image_lock(plan.identity), wait=False):
                yield True
        except Locked:
            # Somebody builds the same; polled, so that a cancelled attempt does not wait for them.
            time.sleep(LOCK_PAUSE_S)
            yield False

    def _build(self, plan: Plan) -> ImageFacts:
        layers = {f"layers/{layer.name}": layer for layer in self.layers(plan)}
        return self.make(plan, plan.recipe(list(layers)), layers, plan.name)

    def make(self, plan: Plan, recipe: Recipe, files: Mapping[str, Path], name: str) -> ImageFacts:
        """Have the engine take an image of what a recipe names, and see that it runs. WorkFailed when it cannot."""
        log, check = self._attempt.reporter.log, self._attempt.check
        with self.node.scratch() as scratch:
            if self._needs_build(plan, recipe):
                self._build_from(recipe, files, scratch, name)
            else:
                archive = assemble(plan.base.facts, recipe, files, scratch, name=name, say=log, check=check)
                self.engine.load(pieces(archive, check), log)
        facts = self.engine.image(name)
        if facts is None:
            raise WorkFailed("image-build-failed", f"the engine has taken {name} and does not have it")
        self._require_runs(plan, name, facts)
        return facts

    def _needs_build(self, plan: Plan, recipe: Recipe) -> bool:
        """Steps of people, and triggers of the base, are run by a build."""
        has_steps = bool(recipe.steps.strip() or plan.base.facts.config.get("OnBuild"))
        return has_steps or not self.engine.loads_onto_layers()

    def _build_from(self, recipe: Recipe, files: Mapping[str, Path], scratch: Path, name: str) -> None:
        context = ContextTar(scratch / "context.tar", self._attempt.check)
        context.text("Dockerfile", dockerfile.written(recipe))
        for path, file in sorted(files.items()):
            context.file(path, file)
        context.close()
        # Only steps of people may need anything from outside, and get what the operator lets builds have.
        has_steps = bool(recipe.steps.strip())
        self.engine.build(
            scratch / "context.tar",
            tag=name,
            say=self._attempt.reporter.log,
            network=self._operator.network if has_steps else "none",
            arguments=dict(self._operator.proxies) if has_steps else None,
        )

    def _require_runs(self, plan: Plan, name: str, facts: ImageFacts) -> None:
        """The runtime starts in it: a base may have the right Python and lack what it links to. Else it is removed."""
        ran = self.engine.run(facts.id, [plan.python, "-c", "import keelway_runtime.server"])
        if ran is None or ran.exit_code != 0:
            self.engine.remove(name)
            said = ran.output.splitlines() if ran else []
            why = said[-1] if said else f"{plan.python} is not there"
            raise WorkFailed(
                "image-does-not-run", f"the image was built, and the runtime does not start in it: {why}", log_tail=said
            )

    def _work(self) -> tree.Work:
        attempt = self._attempt
        return tree.Work(self.node, attempt.subtree, attempt.reporter.log, lambda: attempt.seconds_left)


def operator(settings: WorkerSettings) -> Operator:
    """What the operator of this node has set for builds."""
    proxies = {name: os.environ[name] for name in PROXIES if os.environ.get(name)}
    return Operator(settings.base_image, settings.build_network, proxies)


def _identify(spec: EnvironmentSpec, base: Base) -> str:
    wheel = hashlib.sha256(runtime_wheel().read_bytes()).hexdigest()
    version = base.python.version if base.python else spec.python_version
    platform = spec.platform or (f"linux-{base.python.machine}" if base.python else "")
    identity = Identity(spec.lock_digest, version, base.id, platform, wheel)
    whole = {**asdict(identity), "form": FORM, "is_user_managed": base.is_user_managed}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
