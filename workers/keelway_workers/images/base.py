"""The image that others start from: found, pulled or made, and asked which Python it has."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from keelway.contracts.images import BaseSpec
from keelway_workers.failures import WorkFailed
from keelway_workers.images import python
from keelway_workers.images.context import ContextTar
from keelway_workers.images.engine import Check, Engine, ImageFacts, Say
from keelway_workers.images.python import ASK, ImagePython
from keelway_workers.node_dir import NodeDir, write_atomically

ANOTHER_DEFAULT = "KEELWAY_BASE_IMAGE names what images of this node start from; `make base-image` makes one"
MADE = "keelway/base"  # bases that were made from a Dockerfile, by its digest


@dataclass(frozen=True)
class Base:
    """An image to start from. `reference` is how a Dockerfile names it, as exactly as other engines understand."""

    name: str
    reference: str
    facts: ImageFacts
    python: ImagePython | None
    is_user_managed: bool = False

    @property
    def id(self) -> str:
        """The digest of its configuration."""
        return self.facts.id


@dataclass(frozen=True)
class Operator:
    """What the operator of a node has set for builds: the default base, and what steps of people may reach."""

    base_image: str
    network: str
    proxies: Mapping[str, str]


class Bases:
    """Finds bases on one engine. The files of a build context are in the node's cache before."""

    def __init__(self, engine: Engine, node: NodeDir, operator: Operator, say: Say, check: Check) -> None:
        self._engine, self._node, self._operator = engine, node, operator
        self._say, self._check = say, check

    def find(self, spec: BaseSpec, wanted_python: str) -> Base:
        """The base that an environment asks for, with a Python of that version; an empty one is the image's own.

        WorkFailed when it cannot be had or lacks the Python.
        """
        if spec.dockerfile is not None or spec.context:
            name, facts = self._made(spec)
        else:
            name = spec.base_image or default_name(self._operator.base_image, wanted_python)
            facts = self._engine.image(name) or self._pull(name, spec)
        found = None if spec.brings_python else self._python(name, facts, wanted_python, spec.interpreter)
        return Base(name, _reference(name, facts), facts, found, spec.is_user_managed)

    def _pull(self, name: str, spec: BaseSpec) -> ImageFacts:
        try:
            return self._engine.pull(name, self._say, spec.registry)
        except WorkFailed as failed:
            if spec.base_image is None:  # nobody chose it: say who can
                failed.message += f". {ANOTHER_DEFAULT}"
            raise

    def _made(self, spec: BaseSpec) -> tuple[str, ImageFacts]:
        name = f"{MADE}:{_content(spec)[:40]}"
        if facts := self._engine.image(name):
            return name, facts
        self._say("building the base image")
        with self._node.scratch() as scratch:
            context = ContextTar(scratch / "base.tar", self._check)
            for file in spec.context:
                context.file(file.path, self._node.blob(file.sha256))
            if spec.dockerfile is not None:
                context.text("Dockerfile", spec.dockerfile)
            context.close()
            return name, self._engine.build(
                scratch / "base.tar",
                tag=name,
                say=self._say,
                dockerfile=spec.context_dockerfile,
                network=self._operator.network,
                arguments=dict(self._operator.proxies),
                credentials=spec.registry,
            )

    def _python(self, name: str, facts: ImageFacts, wanted: str, interpreter: str) -> ImagePython:
        """Its Python, asked once per image and version."""
        question = hashlib.sha256(f"{facts.id} {wanted} {interpreter} {ASK}".encode()).hexdigest()
        answer = self._node.images / f"python-{question[:40]}.json"
        if answer.is_file():
            return ImagePython(**json.loads(answer.read_text(encoding="utf-8")))
        found = python.require(name, self._ask(facts, wanted, interpreter), wanted)
        write_atomically(answer, json.dumps(asdict(found)))
        return found

    def _ask(self, facts: ImageFacts, wanted: str, interpreter: str) -> ImagePython | None:
        names = [f"python{wanted}", "python3", "python"] if wanted else [interpreter, "python3", "python"]
        found: ImagePython | None = None
        for name in dict.fromkeys(names):
            ran = self._engine.run(facts.id, [name, "-c", ASK])
            said = python.heard(ran.output) if ran is not None and ran.exit_code == 0 else None
            if said is not None and said.serves(wanted):
                return said
            found = found or said
        return found


def default_name(setting: str, wanted_python: str) -> str:
    """The operator's default base, where `{python}` stands for major.minor."""
    parts = wanted_python.split(".")
    return setting.replace("{python}", ".".join(parts[:2]) if len(parts) > 1 else "3.11")


def _reference(name: str, facts: ImageFacts) -> str:
    """By the digest that a registry knows where there is one; an image of this engine alone has only its name."""
    repository = re.sub(r"(:[^/:]+)?(@.*)?$", "", name)
    exact = [digest for digest in facts.digests if digest.startswith(f"{repository}@")]
    return exact[0] if exact else name


def _content(spec: BaseSpec) -> str:
    files = [[file.path, file.sha256] for file in spec.context]
    return hashlib.sha256(json.dumps([spec.dockerfile, spec.context_dockerfile, files]).encode()).hexdigest()
