"""Each in a process of its own: imports leave traces."""

import subprocess
import sys

import pytest


def python(code, cwd, **environ):
    setup = "import sys, logging; from keelway_runtime import shims; logging.basicConfig(); shims.install()\n"
    return subprocess.run(
        [sys.executable, "-c", setup + code], cwd=cwd, env=environ or None, capture_output=True, text=True, check=False
    )


def test_get_model_path_works_without_azureml_core(tmp_path):
    (tmp_path / "azureml-models/ridge/2").mkdir(parents=True)
    (tmp_path / "azureml-models/ridge/2/ridge.pkl").touch()

    done = python(
        "from azureml.core.model import Model; from azureml.core import Model as M; assert M is Model\n"
        "print(Model.get_model_path(model_name='ridge'))",
        tmp_path,
    )

    assert done.stdout.strip() == str(tmp_path / "azureml-models/ridge/2/ridge.pkl"), done.stderr


def test_the_exception_has_its_old_name(tmp_path):
    done = python(
        "from azureml.core.model import Model; from azureml.exceptions import ModelNotFoundException\n"
        "try: Model.get_model_path('gone')\nexcept ModelNotFoundException: print('caught')",
        tmp_path,
    )

    assert done.stdout.strip() == "caught", done.stderr


def test_a_real_module_wins_and_only_the_gaps_are_filled(tmp_path):
    (tmp_path / "azureml/core").mkdir(parents=True)
    (tmp_path / "azureml/__init__.py").touch()
    (tmp_path / "azureml/core/__init__.py").touch()
    (tmp_path / "azureml/core/model.py").write_text("REAL = True")

    done = python("import azureml.core.model, azureml.train.automl; print(azureml.core.model.REAL)", tmp_path)

    assert done.stdout.strip() == "True", done.stderr


def test_a_module_that_is_not_supplied_stays_missing(tmp_path):
    done = python("import azureml.core.workspace", tmp_path)

    assert "ModuleNotFoundError: No module named 'azureml.core.workspace'" in done.stderr


@pytest.mark.parametrize(
    "spelling", ["from sklearn.externals import joblib", "import sklearn.externals.joblib as joblib"]
)
def test_the_old_joblib_is_the_new_one_with_one_warning(tmp_path, spelling):
    pytest.importorskip("sklearn")

    done = python(
        f"{spelling}\nimport joblib as new, sklearn.externals.joblib.numpy_pickle as old_pickle\n"
        "assert joblib is new and old_pickle is new.numpy_pickle\n"
        "assert new.__spec__.name == 'joblib'",
        tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("import that instead") == 1


@pytest.mark.parametrize("package", ["azureml.contrib.services", "azureml_inference_server_http.api"])
def test_raw_http_works_under_both_names_without_either_package(tmp_path, package):
    done = python(
        f"from {package}.aml_request import AMLRequest, rawhttp\nfrom {package}.aml_response import AMLResponse\n"
        "from keelway_runtime.rawhttp import is_asked_for\n"
        "before = is_asked_for(); rawhttp(print); print(before, is_asked_for(), AMLResponse('x', 201).status_code)",
        tmp_path,
    )

    assert done.stdout.strip() == "False True 201", done.stderr


def test_a_real_raw_http_module_wins_beside_a_shim(tmp_path):
    (tmp_path / "azureml/contrib/services").mkdir(parents=True)
    for folder in ("azureml", "azureml/contrib", "azureml/contrib/services"):
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "azureml/contrib/services/aml_request.py").write_text("REAL = True")

    done = python(
        "import azureml.contrib.services.aml_request as real, azureml.contrib.services.aml_response as shim\n"
        "print(real.REAL, shim.AMLResponse.__module__)",
        tmp_path,
    )

    assert done.stdout.strip() == "True keelway_runtime.rawhttp", done.stderr


def test_installing_twice_adds_one_finder(tmp_path):
    done = python("shims.install(); print(sum(type(f) is shims.ShimFinder for f in sys.meta_path))", tmp_path)

    assert done.stdout.strip() == "1", done.stderr
