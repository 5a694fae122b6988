"""How conda names a package: `numpy`, `numpy=1.26`, `numpy>=1.26,<2`, `conda-forge::numpy=1.26.4=py311h64a7726_0`.

https://docs.conda.io/projects/conda/en/stable/user-guide/concepts/pkg-specs.html#package-match-specifications
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

LINE = re.compile(r"(?:([\w./-]+)::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)(.*)", re.ASCII)
OPERATOR = re.compile(r" ?([=<>!~,|]) ?")
BUILT = re.compile(r"(={0,2}[^=<>!~]+)=([^\s=]+)")
EXACT_OR_FUZZY = re.compile(r"={0,2}(\d+(?:\.\d+)*)(?:\.\*)?")
# What may reach the solver. A quote or bracket would begin another part of conda's language, such as an address.
CONSTRAINT = re.compile(r"[A-Za-z0-9_.*+!<>=~|-]+")
BUILD = re.compile(r"[A-Za-z0-9_.*+]+")
ANY = {"*", "=*", "==*"}
LONGEST = 1000  # a hundred thousand constraints take seconds to read


@dataclass(frozen=True)
class CondaSpec:
    """A package and what its version must be, as conda writes it: `=3.11`, `>=3.9`; `name` is canonical, as pip's."""

    name: str
    constraints: tuple[str, ...]
    build: str | None = None
    channel: str | None = None
    spelled: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether every part is of characters that mean nothing else to the solver."""
        build_is_plain = self.build is None or BUILD.fullmatch(self.build) is not None
        return build_is_plain and all(CONSTRAINT.fullmatch(each) for each in self.constraints)

    def match(self) -> str:
        """The same in conda's own words, without the channel."""
        parts = {"version": ",".join(self.constraints), "build": self.build}
        inner = ",".join(f"{key}='{value}'" for key, value in parts.items() if value)
        return f"{self.spelled}[{inner}]" if inner else self.spelled


def parse(line: str) -> CondaSpec | None:
    """The package that a line asks for; None when it is nothing of this kind."""
    found = LINE.fullmatch(" ".join(line.split()))
    if found is None or len(found[0]) > LONGEST:
        return None
    channel, name, rest = found.groups()
    words = OPERATOR.sub(r"\1", rest.strip()).split(" ")
    if len(words) > 2:  # version and build
        return None
    version, build = words[0], words[1] if len(words) > 1 else None
    if built := BUILT.fullmatch(version):
        version, build = built[1], built[2]
    constraints = tuple(part for part in version.split(",") if part and part not in ANY)
    return CondaSpec(canonicalize_name(name), constraints, build, channel, name.lower())


def python_versions(constraints: Sequence[str]) -> SpecifierSet | None:
    """Which pythons fit, where a patch release stands for its minor version; None for any. Raises InvalidSpecifier."""
    if not constraints:
        return None
    return SpecifierSet(",".join(_python_version(constraint) for constraint in constraints))


def _python_version(constraint: str) -> str:
    if found := EXACT_OR_FUZZY.fullmatch(constraint):
        return f"=={'.'.join(found[1].split('.')[:2])}.*"
    return constraint.removesuffix(".*") if constraint.startswith(("<", ">")) else constraint


def as_pip(spec: CondaSpec) -> str:
    """The requirement that comes closest to a conda package, for people to write instead."""
    text = spec.name + ",".join(_pip_version(constraint) for constraint in spec.constraints)
    try:
        return str(Requirement(text))
    except (InvalidRequirement, InvalidSpecifier):
        return spec.name


def _pip_version(constraint: str) -> str:
    found = EXACT_OR_FUZZY.fullmatch(constraint)
    if not found:
        return constraint
    return f"=={found[1]}" if found[1].count(".") > 1 else f"=={found[1]}.*"
