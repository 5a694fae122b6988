"""Reading pip requirements, line by line: plain ones only."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from keelway_api.errors import EnvironmentInvalid

# In files of the old system these mean "the scoring server": here that is the runtime, with its own shims.
RUNTIME_ITSELF = frozenset(
    {"azureml-defaults", "azureml-contrib-services", "azureml-monitoring", "azureml-inference-server-http"}
)


def read(lines: Iterable[str], *, real_azureml: bool = False) -> tuple[str, ...]:
    """Requirements without comments; the runtime's own names are left out unless the real packages are wanted.

    Raises EnvironmentInvalid.
    """
    found = [_requirement(line) for raw in lines if (line := re.sub(r"(^|\s)#.*$", "", raw).strip())]
    return tuple(str(each) for each in found if real_azureml or canonicalize_name(each.name) not in RUNTIME_ITSELF)


def _requirement(line: str) -> Requirement:
    if line.startswith("-"):
        raise EnvironmentInvalid(line, "options are not read here; indexes are the operator's to set")
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        raise EnvironmentInvalid(line, f"not a requirement: {str(error).splitlines()[0]}") from error
    if requirement.url:
        raise EnvironmentInvalid(line, "packages are taken from the operator's index, not from a URL or path")
    return requirement
