"""An image that is put together is what its Dockerfile makes on a real engine, file by file and setting by setting."""

from __future__ import annotations

import tarfile
import uuid
from contextlib import closing
from types import SimpleNamespace

import pytest

from keelway_workers.images import dockerfile
from keelway_workers.images.archive import pieces
from keelway_workers.images.assembly import assemble
from keelway_workers.images.context import ContextTar
from keelway_workers.images.engine import Engine
from keelway_workers.images.recipe import Recipe
from tests.support.engine import engine_missing
from tests.support.images import docker, ensure_base, inspect

pytestmark = pytest.mark.timeout(300)

BASE = """FROM {base}
ENV PATH=/usr/local/bin:/usr/bin:/bin KEPT="a=b c" REPLACED=before
LABEL theirs=kept
EXPOSE 8000/udp
VOLUME /data
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
WORKDIR /elsewhere
USER 1
CMD ["theirs"]
ENTRYPOINT ["theirs"]
HEALTHCHECK CMD ["theirs"]
"""
OF_THE_BUILD = {"Image", "Hostname"}  # what the classic builder notes of itself


def nothing(*_):
    """Work that goes on, and what it says."""


@pytest.fixture(scope="module")
def engine():
    """This machine's engine."""
    if why := engine_missing():
        pytest.skip(why)
    with closing(Engine(nothing)) as engine:
        yield engine


@pytest.fixture(scope="module")
def base(engine):
    """A base that says something of all that an image can say."""
    name = f"keelway-tests/base:{uuid.uuid4().hex[:12]}"
    docker("build", "-t", name, "-", stdin=BASE.format(base=ensure_base()))
    yield name
    docker("image", "rm", "--force", name)


@pytest.fixture
def make(engine, base, tmp_path):
    """make(recipe options): the image from a Dockerfile and the one put together, of the same files."""
    made = []
    folder = tmp_path / "files"
    (folder / "opt/keelway/env/bin").mkdir(parents=True)
    (folder / "opt/keelway/env/bin/tool").write_text("#!/bin/sh\n")
    (folder / "opt/keelway/env/bin/tool").chmod(0o755)
    (folder / "opt/keelway/env/bin/link").symlink_to("/usr/bin/python3")
    layer = ContextTar(tmp_path / "00-tool.tar", nothing)
    layer.contents(folder)
    layer.close()
    folders = ContextTar(tmp_path / "folders.tar", nothing)
    for name in ("var/azureml-app", "var/azureml-app/empty", "var/azureml-app/sub"):
        folders.folder(name, 10001)
    folders.close()
    (tmp_path / "score.py").write_text("x = 1\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    files = {
        "layers/00-tool.tar": tmp_path / "00-tool.tar",
        "layers/folders.tar": tmp_path / "folders.tar",
        "azureml-app/sub/score.py": tmp_path / "score.py",
        "azureml-app/sub/deep/er/run.sh": tmp_path / "run.sh",
    }

    def both(**options):
        variables = {"PATH": "/opt/keelway/env/bin:/bin", "REPLACED": 'say "$HOME" \\ ü', "NEW": "1"}
        recipe = Recipe(
            base=base, python="/usr/bin/python3", layers=["layers/00-tool.tar"], labels={"lock": "ab"},
            variables=variables, **options,
        )  # fmt: skip
        named = SimpleNamespace(
            built=f"keelway-tests/built:{len(made)}", assembled=f"keelway-tests/assembled:{len(made)}"
        )
        made.extend([named.built, named.assembled])
        scratch = tmp_path / f"scratch-{len(made)}"
        scratch.mkdir()
        context = ContextTar(scratch / "context.tar", nothing)
        context.text("Dockerfile", dockerfile.written(recipe))
        for path, file in files.items():
            context.file(path, file)
        context.close()
        engine.build(scratch / "context.tar", tag=named.built, say=nothing)
        archive = assemble(engine.image(base), recipe, files, scratch, name=named.assembled, say=nothing, check=nothing)
        engine.load(pieces(archive, nothing), nothing)
        return named

    yield both
    docker("image", "rm", "--force", *made)


APP = {"app": "azureml-app", "app_folders": "layers/folders.tar", "app_variables": {"NEW": "2", "SCRIPT": "score.py"}}


@pytest.mark.parametrize("options", [{}, APP], ids=["environment", "package"])
def test_an_assembled_image_is_what_its_dockerfile_makes(make, tmp_path, options):
    images = make(**options)

    built, assembled = (inspect(name)["Config"] for name in (images.built, images.assembled))
    assert {key: value for key, value in assembled.items() if key not in OF_THE_BUILD} == {
        key: value for key, value in built.items() if key not in OF_THE_BUILD
    }
    assert "theirs" in str(assembled["Labels"])  # the base has something to hand on
    listed = listing(images.assembled, tmp_path / "assembled.tar")
    assert listed == listing(images.built, tmp_path / "built.tar")
    assert listed["var/azureml-app"][1:3] == ((10001, 10001) if options else (0, 0))


def listing(image, path):
    """All that is in an image: mode, owners, kind, target and bytes by path."""
    container = docker("create", image)
    try:
        docker("export", "-o", str(path), container)
    finally:
        docker("rm", container)
    with tarfile.open(path) as tar:
        return {
            each.name: (
                each.mode, each.uid, each.gid, each.type, each.linkname,
                tar.extractfile(each).read() if each.isfile() else b"",
            )
            for each in tar
            if not each.name.startswith(("dev/", "etc/", "proc/", "sys/", "usr/", "var/lib/"))
        }  # fmt: skip


def test_the_same_parts_are_the_same_image_whenever_they_are_put_together(make):
    first, second = make(), make()

    assert inspect(first.assembled)["Id"] == inspect(second.assembled)["Id"]
    assert inspect(first.built)["Id"] != inspect(first.assembled)["Id"]  # a build notes its time


def test_its_history_says_what_each_layer_is(make, base):
    name = make(**APP).assembled

    said = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", name).splitlines()

    ours = ["keelway: azureml-app", "keelway: folders", "keelway: 00-tool"]
    assert said == ours + ["the base image"] * len(inspect(base)["RootFS"]["Layers"])
