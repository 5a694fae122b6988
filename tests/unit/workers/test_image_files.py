"""What images are made of, as text and files: Dockerfiles, contexts, layouts, and what an engine's words mean."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import tarfile

import pytest

from keelway.contracts.environments import LockedPackage
from keelway.contracts.files import FileEntry
from keelway.contracts.images import BaseSpec
from keelway.contracts.locks import LockedFile, locked_files
from keelway.contracts.services import EnvironmentSpec
from keelway_workers.failures import WorkFailed
from keelway_workers.images import dockerfile, oci, python, sbom
from keelway_workers.images.base import default_name
from keelway_workers.images.context import ContextTar
from keelway_workers.images.engine import Engine, has_own_store
from keelway_workers.images.operation import fetch_parts
from keelway_workers.images.recipe import Recipe

GOLDEN = r"""# Made by Keelway. Its packages lie beside it: it needs nothing from anywhere but its base image.
ARG BASE_IMAGE=python@sha256:12
FROM ${BASE_IMAGE}
USER 0
ADD ["layers/00-numpy.tar", "/"]
ADD ["layers/01-it's \"odd\".tar", "/"]
ENV \
    A="say \"\$HOME\" \\ `id`" \
    PATH="/opt/keelway/env/bin:/bin"
WORKDIR /var/azureml-app
EXPOSE 5001
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/opt/python", "-m", "keelway_runtime.health"]
ENTRYPOINT ["/opt/python", "-m", "keelway_runtime"]
CMD []
LABEL \
    org.keelway.environment="e:1" \
    org.keelway.lock="ab"
"""


def nothing() -> None:
    """Work that goes on."""


def test_a_dockerfile_follows_from_what_goes_in():
    recipe = Recipe(
        base="python@sha256:12",
        python="/opt/python",
        layers=["layers/00-numpy.tar", 'layers/01-it\'s "odd".tar'],
        labels={"lock": "ab", "environment": "e:1"},
        variables={"PATH": "/opt/keelway/env/bin:/bin", "A": 'say "$HOME" \\ `id`'},
    )

    assert dockerfile.written(recipe) == GOLDEN


def test_what_a_package_adds_comes_after_its_packages_and_before_what_is_ours():
    recipe = Recipe(
        base="b",
        python="/opt/python",
        layers=["layers/00.tar"],
        labels={},
        steps="RUN echo x\n",
        app="azureml-app",
        app_folders="layers/app.tar",
        app_variables={"AZUREML_ENTRY_SCRIPT": "score.py"},
    )

    lines = dockerfile.written(recipe).splitlines()

    assert lines[4:13] == [
        'ADD ["layers/00.tar", "/"]',
        "RUN echo x",
        "USER 0",
        'ADD ["layers/app.tar", "/"]',
        'COPY --chown=10001:10001 ["azureml-app/", "/var/azureml-app/"]',
        "ENV \\",
        '    AZUREML_ENTRY_SCRIPT="score.py"',
        "WORKDIR /var/azureml-app",
        "EXPOSE 5001",
    ]


def test_a_context_does_not_depend_on_where_it_was_written(tmp_path):
    tars = []
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "b").mkdir(parents=True)
        (folder / "b" / "file").write_text("x")
        (folder / "a").write_text("run")
        (folder / "a").chmod(0o700)
        (folder / "link").symlink_to("b/file")
        tar = ContextTar(tmp_path / f"{name}.tar", nothing)
        tar.contents(folder)
        tar.text("Dockerfile", "FROM x")
        tar.close()
        tars.append((tmp_path / f"{name}.tar").read_bytes())

    assert tars[0] == tars[1]
    with tarfile.open(fileobj=io.BytesIO(tars[0])) as read:
        seen = {each.name: (each.mode, each.uid, each.uname, each.linkname) for each in read}
    assert seen["a"] == (0o755, 0, "", "")
    assert seen["b/file"] == (0o644, 0, "", "")
    assert seen["link"][3] == "b/file"


def saved(*files: tuple[str, bytes], links: dict[str, str] | None = None) -> tarfile.TarFile:
    """What an engine saves, as a stream."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    packed.seek(0)
    return tarfile.open(fileobj=packed, mode="r|")


def test_a_saved_image_becomes_an_oci_layout_of_what_it_names(tmp_path):
    config, layer = b'{"rootfs":{}}', b"layer"
    said = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l1/layer.tar", "l2/layer.tar"]}]
    archive = saved(
        ("l1/layer.tar", layer),
        ("l1/json", b"{}"),
        ("c.json", config),
        ("manifest.json", json.dumps(said).encode()),
        links={"l2/layer.tar": "../l1/layer.tar"},
    )

    layout = oci.write_layout(archive, tmp_path / "layout", name="x:1", check=nothing)

    digest = hashlib.sha256(layer).hexdigest()
    index = json.loads((layout.folder / "index.json").read_text())
    manifest = json.loads((layout.folder / "blobs/sha256" / layout.digest.removeprefix("sha256:")).read_text())
    assert index["manifests"][0]["digest"] == layout.digest
    assert [each["digest"] for each in manifest["layers"]] == [f"sha256:{digest}"] * 2
    assert manifest["config"]["digest"] == layout.config == f"sha256:{hashlib.sha256(config).hexdigest()}"
    kept = {path.name for path in (layout.folder / "blobs/sha256").iterdir()}
    assert len(kept) == 3  # not the legacy `json`, which nothing names
    assert set(layout.files) == {
        "oci-layout",
        "index.json",
        "manifest.json",
        *(f"blobs/sha256/{each}" for each in kept),
    }


@pytest.mark.parametrize(
    "files",
    [
        (("manifest.json", b"[]"),),
        (("manifest.json", json.dumps([{"Config": "gone", "Layers": []}]).encode()),),
    ],
)
def test_a_saved_image_that_lacks_something_is_refused(tmp_path, files):
    with pytest.raises(WorkFailed) as failed:
        oci.write_layout(saved(*files), tmp_path / "layout", name="x:1", check=nothing)

    assert failed.value.code == "engine-failed"


def test_an_sbom_is_the_same_for_the_same_packages_and_names_each():
    locked = locked_files("numpy==2.0 \\\n    --hash=sha256:" + "a" * 64 + "\nFoo_Bar==1.0\n")

    texts = {sbom.written("e:1", "id", locked, runtime="r.whl") for _ in range(2)}

    assert len(texts) == 1
    components = {each["name"]: each for each in json.loads(texts.pop())["components"]}
    assert components["numpy"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert components["Foo_Bar"]["purl"] == "pkg:pypi/foo-bar@1.0"
    assert locked[1] == LockedFile(LockedPackage(name="Foo_Bar", version="1.0", manager="pip"), ())


def said(**changes: str) -> python.ImagePython:
    """What a good Python says."""
    known = {
        "version": "3.11.2", "implementation": "CPython", "executable": "/usr/bin/python3", "home": "/usr/bin/python3",
        "machine": "x86_64", "libc": "glibc-2.36", "bytecode": "cpython-311-a7",
    }  # fmt: skip
    return python.ImagePython(**{**known, **changes})


@pytest.mark.parametrize(
    ("found", "wanted", "says"),
    [
        (None, "3.11", "does not have Python 3.11; it has none"),
        (said(), "3.12", "does not have Python 3.12; it has CPython 3.11.2"),
        (said(implementation="PyPy"), "3.11", "it has PyPy 3.11.2"),
        (said(version="3.8.10"), "", "has Python 3.8.10; the runtime needs 3.9"),
        (said(libc="glibc-2.17"), "3.11", "has glibc-2.17; packages need glibc 2.28 or later"),
        (said(libc="-"), "3.11", "has another C library, as Alpine does"),
    ],
)
def test_a_base_without_the_promised_python_is_refused_with_what_it_has(found, wanted, says):
    with pytest.raises(WorkFailed) as failed:
        python.require("some/base:1", found, wanted)

    assert failed.value.code == "base-image-unsuitable"
    assert says in failed.value.message
    assert "some/base:1" in failed.value.message


def test_a_base_with_the_promised_python_is_taken():
    assert python.require("b", said(), "3.11") == said()
    assert python.require("b", said(), "3") == said()
    assert python.heard(f"noise\n{json.dumps(said().__dict__)}\n") == said()
    assert python.heard("noise\n{}\n") is None


def test_the_default_base_has_the_environment_s_python():
    assert default_name("python:{python}-slim", "3.12") == "python:3.12-slim"
    assert default_name("python:{python}-slim", "3.12.4") == "python:3.12-slim"
    assert default_name("ours:1", "3.12") == "ours:1"


def test_a_node_without_an_engine_says_so(monkeypatch, tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(WorkFailed) as failed:
            Engine(nothing)

    assert failed.value.code == "engine-not-available"
    assert "DOCKER_HOST" in failed.value.message


@pytest.mark.parametrize(
    ("said", "may"),
    [
        ({"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}, True),
        ({"Driver": "vfs", "DriverStatus": None}, True),
        ({"Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}, False),
        ({"Driver": "btrfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}, False),
        ({"Driver": "overlay", "DriverStatus": [["Backing Filesystem", "xfs"]]}, False),  # Podman
    ],
)
def test_only_docker_s_own_stores_take_images_without_the_layers_they_have(said, may):
    assert has_own_store(said) is may


def test_a_build_context_of_five_gigabytes_is_refused_before_any_of_it_is_fetched(tmp_path):
    file = FileEntry(path="data", size_bytes=5 * 1024**3, sha256="a" * 64)
    environment = EnvironmentSpec(name="e", version=1, python_version="3.11", lock="", lock_digest="")

    with pytest.raises(WorkFailed) as failed:
        fetch_parts(None, None, environment, BaseSpec(context=[file]))

    assert failed.value.code == "build-context-too-large"
    assert "5,368,709,120" in failed.value.message
