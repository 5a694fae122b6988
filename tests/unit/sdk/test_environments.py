"""Environments on the client's side."""

from __future__ import annotations

import pytest

from keelway.errors import InvalidInput


def test_a_build_context_with_data_in_it_is_refused_before_anything_is_sent(wire, client, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    with (tmp_path / "data").open("wb") as file:
        file.truncate(5 * 1024**3)

    with pytest.raises(InvalidInput, match=r"5,368,709,127 bytes; 2,147,483,648 are taken"):
        client.environments.register("large", pip_requirements=[], build_context=tmp_path)

    assert wire.asked == []


def test_a_link_out_of_a_build_context_is_refused(wire, client, tmp_path):
    (tmp_path / "outside").write_text("x")
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM x\n")
    (folder / "link").symlink_to("../outside")

    with pytest.raises(InvalidInput, match="link"):
        client.environments.register("links", pip_requirements=[], build_context=folder)

    assert wire.asked == []
