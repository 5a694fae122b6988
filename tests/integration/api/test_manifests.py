"""Paths in manifests: what could not live side by side on a file system is refused."""

import time

import pytest

from tests.support.problems import assert_problem, paths_of
from tests.support.registry import manifest, sha256

BAD_PATHS = [
    *("", "/", "/a", "//a", "a/", "a//b", "./a", "a/.", "a/./b", ".", "..", "../a", "a/..", "a/../b", "a/../../b"),
    *("\\a", "a\\b", "..\\a", "C:\\a", "\\\\host\\share", "a/..\\b"),
    *("a\0b", "a\nb", "a\rb", "a\tb", "\x1b[31ma", "a\x7f", "a\x85b"),
    *("a\u200bb", "a\u202eb", "a\u2066b", "\ufeffa", "a\u00adb", "a\u200db"),
    *("a/\u200e", "m/" + "/b", "a/ /../b", "m/..", "/etc/passwd", "../../../../etc/passwd", "a" * 1025),
    *("m.", "m ", "m/a.", "m/a ", "m/a./b", "m/a /b", "m/..."),
]
CLASHES = {
    "two of one path": ["m/a", "m/a"],
    "case twins": ["m/Weights.bin", "m/weights.bin"],
    "twins by normal form": ["m/caf\u00e9", "m/cafe\u0301"],
    "twins by folding": ["m/stra\u00dfe", "m/STRASSE"],
    "twins by folding in another normal form": ["m/\u0390", "m/\u03aa\u0301"],
    "twins by upper case": ["m/\u0131", "m/I"],
    "folders that are case twins": ["m/A/x", "m/a/y"],
    "folders that are twins by normal form": ["m/caf\u00e9/x", "m/b", "m/cafe\u0301/y/z"],
    "a file that is a folder": ["m/a", "m/a/b"],
    "a file that is a folder in another case": ["m/A", "m/a/b"],
    "two top-level entries": ["a.bin", "b.bin"],
}


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: repr(path)[:30])
def test_a_bad_path_is_refused_by_its_place_in_the_manifest(api, w, path):
    files = [*manifest({"m": b"x"}), {"path": path, "size_bytes": 1, "sha256": sha256(b"y")}]

    response = api.admin.post(f"{w}/models/ridge/versions", json={"files": files})

    assert paths_of(assert_problem(response, "invalid-request")) == ["body.files[1].path"]


def test_a_path_with_half_a_character_is_refused(api, w):
    body = b'{"files": [{"path": "a\\ud800", "size_bytes": 1, "sha256": "%s"}]}' % (b"0" * 64)

    response = api.admin.post(f"{w}/models/ridge/versions", content=body, headers={"Content-Type": "application/json"})

    assert paths_of(assert_problem(response, "invalid-request")) == ["body.files[0].path"]


@pytest.mark.parametrize("paths", CLASHES.values(), ids=CLASHES.keys())
def test_paths_that_clash_are_refused(api, w, paths):
    files = [{"path": path, "size_bytes": 1, "sha256": sha256(path.encode())} for path in paths]

    response = api.admin.post(f"{w}/models/ridge/versions", json={"files": files})

    assert paths_of(assert_problem(response, "invalid-request")) == ["body.files"]


@pytest.mark.parametrize(
    "paths",
    [
        ["m/A/x", "m/A/y", "m/b/A", "m/b/B/a"],
        ["m/12:30:00.ckpt", "m/aux/con.txt", "m/.hidden", "m/a b", "m/a.b.c", "m/\u00e9\u6a21\u578b"],
    ],
)
def test_names_that_models_have_are_taken(api, w, paths):
    files = [{"path": path, "size_bytes": 1, "sha256": sha256(path.encode())} for path in paths]

    response = api.admin.post(f"{w}/models/ridge/versions", json={"files": files})

    assert response.status_code == 201, response.text


def test_more_folders_than_there_may_be_files_are_refused_soon(api, w):
    paths = [f"m/{number}/" + "a/" * 450 + "f" for number in range(3000)]
    files = [{"path": path, "size_bytes": 1, "sha256": "0" * 64} for path in paths]
    before = api.rss_bytes
    started = time.monotonic()

    problem = assert_problem(api.admin.post(f"{w}/models/ridge/versions", json={"files": files}), "invalid-request")

    assert "100000 folders" in problem["detail"]
    assert time.monotonic() - started < 10
    assert api.rss_bytes - before < 300 * 2**20


@pytest.mark.parametrize(
    "file",
    [
        {"size_bytes": -1},
        {"size_bytes": 1.5},
        {"sha256": "0" * 63},
        {"sha256": "G" * 64},
        {"sha256": "0" * 64 + "\n"},
        {"path": 1},
        {"path": None},
    ],
    ids=str,
)
def test_a_file_with_a_wrong_field_is_refused(api, w, file):
    good = {"path": "m", "size_bytes": 1, "sha256": "0" * 64}

    response = api.admin.post(f"{w}/models/ridge/versions", json={"files": [good | file]})

    assert_problem(response, "invalid-request")


@pytest.mark.parametrize("size_bytes", [2**63, 10**400], ids=["2^63", "10^400"])
def test_a_size_that_fits_no_number_is_too_large(api, w, size_bytes):
    file = {"path": "m", "size_bytes": size_bytes, "sha256": "0" * 64}

    response = api.admin.post(f"{w}/models/ridge/versions", json={"files": [file]})

    assert assert_problem(response, "too-large")["path"] == "m"


def test_an_empty_manifest_is_refused(api, w):
    assert_problem(api.admin.post(f"{w}/models/ridge/versions", json={"files": []}), "invalid-request")
    assert_problem(api.admin.post(f"{w}/snapshots", json={"files": []}), "invalid-request")
