"""`make base-image` for real: a Debian image of packages alone, in this machine's engine."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.support.engine import engine_missing
from tests.support.images import SCRIPT, ensure_base

# What Keelway's images need of their base: a new enough Python that makes environments, and authorities to trust.
CHECK = (
    "import pathlib, ssl, sys, venv; "
    "assert sys.version_info >= (3, 11); "
    "assert ssl.create_default_context().cert_store_stats()['x509_ca'] > 50; "
    "venv.create('/tmp/env', with_pip=True); "
    "print(*sorted(path.name for path in pathlib.Path('/usr/share/man').glob('**/*') if path.is_file()))"
)


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the script to its end."""
    return subprocess.run([SCRIPT, *arguments], env={**os.environ, **env}, capture_output=True, text=True, timeout=300)


@pytest.fixture
def mmdebstrap() -> None:
    """What makes the image, and an engine to have it."""
    if why := engine_missing():
        pytest.skip(why)
    if shutil.which("mmdebstrap") is None:
        pytest.skip("no mmdebstrap on this machine")


@pytest.mark.timeout(400)
def test_an_image_of_debian_packages_alone_has_what_our_images_need(mmdebstrap):
    name = ensure_base()

    checked = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", name, "python3", "-c", CHECK],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (checked.returncode, checked.stdout.strip()) == (0, ""), checked.stderr


@pytest.mark.timeout(120)
def test_a_mirror_that_is_not_there_leaves_no_image(mmdebstrap):
    name = f"keelway-base-test:{os.getpid()}"

    made = run(name, BASE_MIRROR="http://127.0.0.1:9/debian")

    assert made.returncode == 1
    assert "127.0.0.1:9" in made.stderr
    assert "base-image: mmdebstrap could not make it" in made.stderr
    found = subprocess.run(["docker", "image", "inspect", name], capture_output=True, timeout=30)
    assert found.returncode != 0


def test_what_is_missing_is_named(tmp_path):
    for program in ("bash", "cat", "env"):
        (tmp_path / program).symlink_to(shutil.which(program) or program)

    without_both = run(PATH=str(tmp_path))
    (tmp_path / "mmdebstrap").symlink_to("/bin/true")
    without_docker = run(PATH=str(tmp_path))

    assert (without_both.returncode, without_docker.returncode) == (1, 1)
    assert "apt-get install mmdebstrap" in without_both.stderr
    assert "apt-get install docker.io" in without_docker.stderr


def test_an_option_that_is_not_known_shows_the_usage():
    refused = run("--name", "x")

    assert refused.returncode == 2
    assert refused.stderr.startswith("usage: ")


def test_another_release_gives_the_image_its_name():
    shown = run("--help", BASE_SUITE="trixie")

    assert shown.returncode == 0
    assert "keelway-base:trixie unless given" in shown.stdout
