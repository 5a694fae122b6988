"""What an image holds, as a CycloneDX document: the packages of its lock, no more and no less, and the runtime."""

# The library makes its classes by decorators that the type checker does not see through.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from keelway.contracts.locks import LockedFile

# Of no meaning but the same each time: the same packages give the same text.
WRITTEN_AT = datetime(2020, 1, 1, tzinfo=UTC)


def written(subject: str, version: str, packages: Iterable[LockedFile], *, runtime: str) -> str:
    """The document, as CycloneDX 1.6 JSON. `runtime` is the file name of the scoring runtime's wheel."""
    image = Component(
        name=subject,
        version=version,
        type=ComponentType.CONTAINER,
        bom_ref="image",
        properties=[Property(name="keelway:runtime", value=runtime)],
    )
    bom = Bom()
    bom.metadata.component, bom.metadata.timestamp = image, WRITTEN_AT
    bom.components.update(map(_component, packages))
    bom.register_dependency(image, bom.components)
    bom.serial_number = uuid5(NAMESPACE_URL, f"{subject}@{version} {[str(one.purl) for one in bom.components]}")
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n"


def _component(locked: LockedFile) -> Component:
    package = locked.package
    kind = "pypi" if package.manager == "pip" else "conda"
    name = canonicalize_name(package.name) if kind == "pypi" else package.name
    purl = PackageURL(kind, None, name, package.version)
    # Of a package that has many files the lock does not say which one it is.
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=locked.sha256[0])] if len(locked.sha256) == 1 else None
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=str(purl),
        hashes=hashes,
        properties=[Property(name="keelway:source", value=package.source)] if package.source else None,
    )
