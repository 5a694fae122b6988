"""`keelway service data`, and how collection is switched on."""

from __future__ import annotations

import json

import pytest

from keelway.cli.configs import read_deployment
from keelway.errors import InvalidInput
from tests.unit.sdk.test_collected import COLLECTED, PATH, ROWS, file, hold
from tests.unit.sdk.wire import Answer


def test_list_shows_paths_and_sizes(wire, keelway):
    hold(wire, file())

    assert PATH in keelway("service", "data", "list", "ridge-svc").stdout
    shown = keelway("service", "data", "list", "-n", "ridge-svc", "--day", "2030-01-02", "--json").stdout
    assert json.loads(shown)[0]["path"] == PATH
    assert wire.asked[-1].query == "day=2030-01-02"


def test_download_says_where_the_files_are(wire, keelway, tmp_path):
    hold(wire, file())

    arguments = ("service", "data", "download", "ridge-svc", "-t", str(tmp_path), "--designation", "inputs")

    assert json.loads(keelway(*arguments, "--json").stdout) == [str(tmp_path / PATH)]
    assert (tmp_path / PATH).read_bytes() == ROWS
    assert "1 file(s)" in keelway(*arguments).stdout


def test_delete_asks_first(wire, keelway):
    wire.on(f"DELETE {COLLECTED}", Answer(200, {"deleted_files": 2, "deleted_bytes": 4096, "is_complete": True}))
    arguments = ("service", "data", "delete", "ridge-svc", "--until", "2030-01-02")

    assert keelway(*arguments, input="n\n").exit_code == 1
    assert not wire.asked
    assert "deleted 2 file(s)" in keelway(*arguments, "--yes").stdout
    assert wire.asked[0].query == "until=2030-01-02"


@pytest.mark.parametrize("day", ["yesterday", "2030-13-01", "2030-01-02T00:00:00"])
def test_a_day_that_is_none_is_wrong_use(wire, keelway, day):
    assert keelway("service", "data", "list", "ridge-svc", "--day", day).exit_code == 2
    assert not wire.asked


def config(tmp_path, **document):
    path = tmp_path / "deploymentconfig.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("section", "collects"),
    [({"storageEnabled": True}, True), ({"storageEnabled": False, "eventHubEnabled": False}, False), ({}, False)],
)
def test_a_deployment_config_switches_collection_on(tmp_path, section, collects):
    assert read_deployment(config(tmp_path, dataCollection=section)).collect_model_data is collects
    assert read_deployment(config(tmp_path, dataCollection=None)).collect_model_data is False


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (True, "dataCollection must be an object"),
        ({"storageEnabled": "yes"}, "storageEnabled must be true or false"),
        ({"storageenabled": True}, "'storageenabled' is no key"),
        ({"eventHubEnabled": True}, "'eventHubEnabled' does not work yet"),
    ],
)
def test_what_is_wrong_with_data_collection_is_said(tmp_path, section, message):
    with pytest.raises(InvalidInput, match=message):
        read_deployment(config(tmp_path, dataCollection=section))
