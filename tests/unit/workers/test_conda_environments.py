"""Environments with conda packages and with private wheels: solved from a channel on this disk, then built."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from pathlib import Path

import pytest

from keelway.contracts.environments import EnvironmentVersionCreate, lock_digest
from keelway.contracts.files import FileEntry
from keelway_api.environments import conda_solver, definition, resolver
from keelway_workers.environments import EnvironmentBuilder, mend_scripts
from keelway_workers.failures import WorkFailed, WorkStopped
from keelway_workers.node_dir import NodeDir
from keelway_workers.pythons import find_pythons
from keelway_workers.subtree import Subtree
from tests.support.conda_channel import PYTHON, make_channel
from tests.support.registry import sha256
from tests.support.wheels import file_name, wheel
from tests.unit.workers.plane import environment_spec

TIDES = f"channels: [local]\ndependencies: [python={PYTHON}, tides]\n"


@pytest.fixture(scope="module")
def channel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("channel")
    make_channel(folder)
    return folder


@pytest.fixture
def node(tmp_path) -> NodeDir:
    node = NodeDir(tmp_path / "node")
    node.make()
    return node


def wanted(text: str, *requirements: str):
    text += "".join(f"- pip: [{line}]\n" for line in requirements)
    return definition.read(EnvironmentVersionCreate(conda_file=text))


def solved(channel: Path, *requirements: str):
    """A spec as the API makes it."""
    asked = wanted(f"channels: [local]\ndependencies:\n- python={PYTHON}\n- tides\n", *requirements)
    conda = asyncio.run(conda_solver.lock(asked, {"local": channel.as_uri()}))
    pip = resolver.Wanted(asked.requirements, conda.python_version, asked.machine, given=conda.given)
    lock = asyncio.run(resolver.lock(pip))
    spec = environment_spec(lock, conda.python_version)
    digest = lock_digest(lock, conda.text)
    return spec.model_copy(
        update={"conda_lock": conda.text, "lock_digest": digest, "platform": f"linux-{asked.machine}"}
    )


def ask(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout.strip()


def test_conda_packages_their_python_and_pips_packages_live_in_one_environment(node, channel, pythons):
    said: list[str] = []
    builder = EnvironmentBuilder(node, find_pythons)
    spec = solved(channel, "pyjokes==0.8.3")

    built = builder.ensure(spec, subtree=Subtree(), say=said.append)

    code = "import tides, keelway_runtime.server, pyjokes, sys; print(tides.version, sys.prefix)"
    assert ask(built.python, code) == f"2.0 {built.path}"
    assert (built.path / "share" / "moon.txt").read_text() == "full"
    assert " + tides" in said
    assert builder.find(spec) == built
    assert ".tmp-" not in (built.path / "bin" / "pyjoke").read_text()
    assert "neutral" in subprocess.run([built.path / "bin" / "pyjoke", "--help"], capture_output=True, text=True).stdout
    assert not list(node.environments.glob(".tmp-*"))


def test_the_same_conda_environment_is_built_once(node, channel, pythons):
    said: list[str] = []
    spec = solved(channel)
    threads = [
        threading.Thread(
            target=EnvironmentBuilder(node, find_pythons).ensure,
            args=(spec,),
            kwargs={"subtree": Subtree(), "say": said.append},
        )
        for _ in range(2)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(line.startswith("$ install conda packages") for line in said) == 1


def test_a_conda_package_whose_bytes_are_others_is_not_installed(node, channel, pythons):
    spec = solved(channel)
    records = json.loads(spec.conda_lock or "")
    records["records"][-1]["sha256"] = "0" * 64
    records["records"][-1]["md5"] = "0" * 32
    text = json.dumps(records)
    changed = spec.model_copy(update={"conda_lock": text, "lock_digest": lock_digest(spec.lock, text)})

    with pytest.raises(WorkFailed) as failed:
        EnvironmentBuilder(node, find_pythons).ensure(changed, subtree=Subtree(), say=lambda _: None)

    assert failed.value.code == "environment-build-failed"
    assert "conda packages" in failed.value.message
    assert "tides" in failed.value.message
    assert not list(node.environments.glob("[!.]*"))


def test_a_changed_conda_part_does_not_have_the_locks_digest(node, channel, pythons):
    spec = solved(channel)

    with pytest.raises(WorkFailed) as failed:
        EnvironmentBuilder(node, find_pythons).find(spec.model_copy(update={"conda_lock": '{"records": []}'}))

    assert failed.value.code == "damaged-bytes"


def test_what_was_locked_for_another_platform_is_not_built(node, pythons):
    spec = environment_spec().model_copy(update={"platform": "linux-riscv64"})

    with pytest.raises(WorkFailed) as failed:
        EnvironmentBuilder(node, find_pythons).find(spec)

    assert failed.value.code == "platform-not-available"


def test_a_cancelled_build_ends_the_installing_program(node, channel, pythons):
    subtree = Subtree()

    def cancel(line: str) -> None:
        if line.startswith("$ install"):
            subtree.kill()

    with pytest.raises(WorkStopped):
        EnvironmentBuilder(node, find_pythons).ensure(solved(channel), subtree=subtree, say=cancel)

    assert not list(node.environments.glob("[!.]*"))
    assert not list(node.environments.glob(".tmp-*"))


def test_pip_takes_condas_packages_as_they_are():
    records = [
        {"name": "numpy", "version": "1.26.4", "depends": ["python >=3.11", "libblas"]},
        {"name": "Tides_Lib", "version": "1!2.0", "depends": [], "noarch": "python"},
        {"name": "libblas", "version": "3.9", "depends": ["libgcc"]},
        {"name": "odd", "version": "2024a_x", "depends": ["python"]},
        {"name": "python", "version": "3.11.7", "depends": ["openssl"]},
    ]

    found = conda_solver._lock({"records": records}, wanted(TIDES))

    assert (found.given, found.python_version) == (("numpy==1.26.4", "tides-lib==1!2.0"), "3.11")


def test_a_package_that_conda_has_is_not_locked_for_pip_again(pythons):
    asked = resolver.Wanted(("python-dateutil==2.9.0.post0",), PYTHON, "x86_64", given=("six==1.16.0",))

    lock = asyncio.run(resolver.lock(asked))

    assert "python-dateutil==" in lock
    assert "six==" not in lock


def test_a_private_wheel_is_installed_with_what_it_needs(node, tmp_path, pythons):
    path = tmp_path / file_name("acme")
    path.write_bytes(wheel("acme", "1.0", "pyjokes==0.8.3"))
    lock = asyncio.run(resolver.lock(resolver.Wanted((), PYTHON, "x86_64", (path,))))
    files = [FileEntry(path=path.name, size_bytes=path.stat().st_size, sha256=sha256(path.read_bytes()))]
    spec = environment_spec(lock, PYTHON).model_copy(update={"wheels": files})

    def fetch(digests, *, check) -> None:
        for digest in digests:
            node.blob(digest).parent.mkdir(parents=True, exist_ok=True)
            node.blob(digest).write_bytes(path.read_bytes())

    built = EnvironmentBuilder(node, find_pythons, fetch).ensure(spec, subtree=Subtree(), say=lambda _: None)

    assert str(tmp_path) not in lock
    assert "acme @ file://${KEELWAY_WHEELS}/acme-1.0-py3-none-any.whl \\\n    --hash=sha256:" in lock
    assert ask(built.python, "import acme, pyjokes; print(acme.version)") == "1.0"


def test_a_private_wheel_whose_bytes_are_others_is_not_installed(node, tmp_path, pythons):
    path = tmp_path / file_name("acme")
    path.write_bytes(wheel("acme"))
    lock = asyncio.run(resolver.lock(resolver.Wanted((), PYTHON, "x86_64", (path,))))
    files = [FileEntry(path=path.name, size_bytes=1, sha256="a" * 64)]
    spec = environment_spec(lock, PYTHON).model_copy(update={"wheels": files})
    node.blob("a" * 64).parent.mkdir(parents=True)
    node.blob("a" * 64).write_bytes(wheel("acme", "1.0", "six"))

    def fetch(digests, *, check) -> None: ...

    with pytest.raises(WorkFailed, match="hash"):
        EnvironmentBuilder(node, find_pythons, fetch).ensure(spec, subtree=Subtree(), say=lambda _: None)


def test_scripts_name_the_interpreter_where_it_will_be(tmp_path):
    folder, place = tmp_path / "tmp", tmp_path / "place"
    (folder / "bin").mkdir(parents=True)
    long = "#!/bin/sh\n'''exec' '{}/bin/python' \"$0\" \"$@\"\n' '''\n"
    texts = {
        "ours": f"#!{folder}/bin/python\nprint()\n",
        "long": long.format(folder),
        "other": f"#!/bin/sh\n\n\n{folder}/bin/python",
        "empty": "",
    }
    for name, text in texts.items():
        (folder / "bin" / name).write_text(text)
    (folder / "bin" / "ours").chmod(0o755)
    (folder / "bin" / "link").symlink_to("/nowhere")

    mend_scripts(folder, place)

    assert (folder / "bin" / "ours").read_text() == f"#!{place}/bin/python\nprint()\n"
    assert (folder / "bin" / "ours").stat().st_mode & 0o777 == 0o755
    assert (folder / "bin" / "long").read_text() == long.format(place)
    assert (folder / "bin" / "other").read_text() == texts["other"]
