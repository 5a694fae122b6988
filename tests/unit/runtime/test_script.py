"""Starting: what a script must have, what it may rely on, and what is said when it fails."""

import pytest

RUN = "def run(raw): return raw\n"
INIT = "def init(): pass\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (RUN, "no function init()"),
        (INIT, "no function run()"),
        (INIT + "def run(*args): pass", "*args"),
        (INIT + "def run(raw, **kwargs): pass", "**kwargs"),
        (INIT + "def run(raw, /): pass", "positional-only"),
        (INIT + "def run(): pass", "a parameter that takes the request"),
        (INIT + "def run(a, b): pass", "takes one argument"),
        (INIT + "def run(request_headers): pass", "takes one argument"),
        ("def init(path): pass\n" + RUN, "without arguments"),
        ("async def init(): pass\n" + RUN, "plain function"),
        ("import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'"),
        ("def init(:\n", "SyntaxError"),
        ("def init(): 1 / 0\n" + RUN, "ZeroDivisionError"),
        ("def init(): raise SystemExit(0)\n" + RUN, "SystemExit"),
    ],
)
def test_a_script_that_cannot_be_served_ends_the_process_with_3(serve, script, said):
    server = serve(script)

    assert server.wait_exit() == 3
    assert said in server.output


def test_the_traceback_and_the_model_tree_are_printed(serve, tmp_path):
    model = tmp_path / "azureml-models/ridge/1/ridge.pkl"
    model.parent.mkdir(parents=True)
    model.touch()

    server = serve("def init():\n    raise KeyError('weights')\n" + RUN, app_root=tmp_path)

    assert server.wait_exit() == 3
    assert 'score.py", line 2, in init' in server.output
    assert "keelway_runtime/script.py" not in server.output
    assert "ridge.pkl" in server.output.split("Model directory:")[1]


def test_half_a_printed_line_is_not_lost(serve):
    server = serve("def init():\n    print('almost', end='')\n    raise ValueError\n" + RUN)

    server.wait_exit()

    assert "almost" in server.output


def test_a_missing_script_is_named(serve):
    server = serve("", AZUREML_ENTRY_SCRIPT="src/gone.py")

    assert server.wait_exit() == 3
    assert "src/gone.py" in server.output


@pytest.mark.parametrize("name", ["AZUREML_ENTRY_SCRIPT", "KEELWAY_PORT", "KEELWAY_LISTEN_FD"])
def test_a_configuration_that_cannot_be_served_ends_with_2(serve, name):
    value = {"AZUREML_ENTRY_SCRIPT": "", "KEELWAY_PORT": "x", "KEELWAY_LISTEN_FD": "987"}[name]

    server = serve(INIT + RUN, **{name: value})

    assert server.wait_exit() == 2
    assert "keelway_runtime: " in server.output


def test_while_init_runs_the_server_is_alive_but_not_ready(serve, tmp_path):
    server = serve(
        "import os, time\ndef init():\n    while not os.path.exists('go'): time.sleep(0.01)\n" + RUN, app_root=tmp_path
    )
    server.wait_for(lambda: server.events("listening"))

    assert server.get("/livez").status == 200
    assert [server.get(path).status for path in ("/", "/readyz", "/swagger.json")] == [503, 503, 503]
    refused = server.score(b"x")
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"

    (tmp_path / "go").touch()
    server.wait_ready()
    healthy = server.get("/")
    assert (healthy.status, healthy.body) == (200, b"Healthy")
    assert "x-keelway-revision" not in healthy.headers


@pytest.mark.parametrize(("revision", "said"), [("r12", "r12"), ("r1\r\nx: y", None)])
def test_health_says_which_revision_it_is(serve, revision, said):
    server = serve(INIT + RUN, KEELWAY_REVISION=revision)
    server.wait_ready()

    assert server.get("/").headers.get("x-keelway-revision") == said


SURROUNDINGS = """
    import json, os, sys, beside, lib.below_root

    def init():
        pass

    def run(raw):
        return {"cwd": os.getcwd(), "root": os.environ["AML_APP_ROOT"], "models": os.environ["AZUREML_MODEL_DIR"],
                "name": __name__, "known": __name__ in sys.modules}
"""


@pytest.mark.parametrize("script", ["nested/score.py", "src/nested/score.py"])
def test_the_script_finds_its_surroundings(serve, tmp_path, script):
    (tmp_path / "src/nested").mkdir(parents=True)
    (tmp_path / "src/nested/beside.py").touch()
    (tmp_path / "src/lib").mkdir()
    (tmp_path / "src/lib/below_root.py").touch()
    (tmp_path / "azureml-models/ridge/1/").mkdir(parents=True)
    serve(SURROUNDINGS, app_root=tmp_path).stop()
    (tmp_path / "score.py").rename(tmp_path / "src/nested/score.py")

    server = serve("", app_root=tmp_path, AZUREML_SOURCE_DIRECTORY="src", AZUREML_ENTRY_SCRIPT=script).wait_ready()

    assert server.score(b"?").json() == {
        "cwd": str(tmp_path),
        "root": str(tmp_path),
        "models": str(tmp_path / "azureml-models/ridge/1"),
        "name": "score",
        "known": True,
    }


def test_a_script_named_like_a_loaded_module_replaces_nothing(serve, tmp_path):
    (tmp_path / "json.py").write_text(INIT + "import logging, json\ndef run(raw): return json.dumps(1)")

    server = serve("", app_root=tmp_path, AZUREML_ENTRY_SCRIPT="json.py").wait_ready()

    assert server.score(b"?").json() == "1"
