import pytest

from keelway_runtime import model_path
from keelway_runtime.model_path import ModelNotFoundException, get_model_path


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("AML_APP_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(root, name, version, entry="model.pkl"):
    path = root / "azureml-models" / name / str(version) / entry
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_newest_version_is_the_highest_number_not_the_last_word(root):
    add(root, "ridge", 9)
    newest = add(root, "ridge", 10)

    assert get_model_path("ridge") == str(newest)


def test_a_version_can_be_asked_for(root):
    older = add(root, "ridge", 1)
    add(root, "ridge", 2)

    assert get_model_path("ridge", version=1) == str(older)


def test_a_folder_is_given_as_a_folder(root):
    weights = add(root, "net", 1, "bundle/weights.bin")

    assert get_model_path("net") == str(weights.parent)


def test_a_model_beside_the_script_is_found_by_its_name(root):
    (root / "ridge.pkl").touch()

    assert get_model_path("ridge.pkl") == str(root / "ridge.pkl")


def test_a_missing_model_names_the_places_searched_and_the_models_there(root):
    add(root, "ridge", 3)

    with pytest.raises(ModelNotFoundException) as raised:
        get_model_path("rigde")

    assert str(root / "azureml-models" / "rigde") in str(raised.value)
    assert str(root / "rigde") in str(raised.value)
    assert "ridge:3" in str(raised.value)


def test_a_missing_version_does_not_fall_back_to_another(root):
    add(root, "ridge", 3)

    with pytest.raises(ModelNotFoundException, match="ridge:4"):
        get_model_path("ridge", 4)


@pytest.mark.parametrize("entries", [[], ["a.pkl", "b.pkl"]])
def test_a_version_holds_exactly_one_entry(root, entries):
    (root / "azureml-models" / "ridge" / "1").mkdir(parents=True)
    for entry in entries:
        add(root, "ridge", 1, entry)

    with pytest.raises(ModelNotFoundException, match="exactly one"):
        get_model_path("ridge")


def test_the_model_dir_is_the_only_version_else_the_folder_of_all(root):
    assert model_path.default_model_dir(root) == root / "azureml-models"
    only = add(root, "ridge", 1)
    assert model_path.default_model_dir(root) == only.parent
    add(root, "lasso", 1)
    assert model_path.default_model_dir(root) == root / "azureml-models"


def test_the_tree_of_many_files_ends_after_200_lines(tmp_path):
    for number in range(300):
        (tmp_path / f"{number:03}.bin").touch()

    lines = model_path.tree(tmp_path)

    assert len(lines) == 200
    assert lines[-1].strip() == "..."


def test_the_tree_of_no_folder_says_so(tmp_path):
    assert "does not exist" in model_path.tree(tmp_path / "gone")[0]
