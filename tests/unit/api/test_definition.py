"""Reading conda files and requirements: what can be installed is kept, everything else is refused by its line."""

import time

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from keelway.contracts.environments import EnvironmentVersionCreate
from keelway_api.environments.conda import as_pip, parse
from keelway_api.environments.definition import choose_python, read
from keelway_api.errors import EnvironmentInvalid, PythonNotAvailable


def conda(text, **more):
    return read(EnvironmentVersionCreate(conda_file=text, **more))


def old(definition, **more):
    return read(EnvironmentVersionCreate.model_validate({"definition": definition, **more}))


def pip(text, **more):
    return read(EnvironmentVersionCreate(pip_requirements=text, **more))


OLD = """
name: project_environment
channels: [conda-forge]
dependencies:
  - python=3.6.2
  - pip=20
  - pip:
    - azureml-defaults
    - azureml-monitoring
    - AzureML_Defaults[extra]>=1.0
    - scikit-learn==0.22  # as trained
    - "numpy >= 1.20"
variables:
  A: b
  N: 1
"""


def test_a_conda_file_of_the_old_system_is_read():
    found = conda(OLD)

    assert found.python == SpecifierSet("==3.6.*")
    assert found.requirements == ("scikit-learn==0.22", "numpy>=1.20")
    assert found.variables == {"A": "b", "N": "1"}


def test_a_definition_of_the_old_system_is_read():
    found = old(
        {
            "name": "e",
            "environmentVariables": {"A": "c"},
            "python": {"condaDependencies": yaml.safe_load(OLD)},
            "docker": {
                "baseImage": "mcr.microsoft.com/azureml/base:1",
                "baseImageRegistry": {"address": "r.example:5000", "username": "u", "password": "p"},
                "platform": {"os": "Linux", "architecture": "arm64"},
                "arguments": ["--gpus", "all"],
            },
            "spark": {"packages": [{"group": "g"}]},
        },
        python_version="3.11",
    )

    assert found.python == SpecifierSet("==3.11.*")
    assert found.requirements == ("scikit-learn==0.22", "numpy>=1.20")
    assert found.variables == {"A": "c", "N": "1"}
    assert (found.image.base_image, found.machine) == ("mcr.microsoft.com/azureml/base:1", "aarch64")
    assert found.image.registry is not None
    assert found.image.registry.password == "p"
    assert found.notes == ("docker.arguments is kept and has no effect", "spark.packages is kept and has no effect")


def test_the_images_own_python_needs_no_packages():
    docker = {"baseDockerfile": "ARG x=1\n# a comment\nFROM python:3.11\nRUN pip install six && echo $(date)\n"}
    python = {"userManagedDependencies": True, "interpreterPath": "/opt/conda/bin/python"}

    found = old({"python": python, "docker": docker})

    assert (found.is_user_managed, found.requirements, found.conda_specs) == (True, (), ())
    assert found.image.dockerfile == docker["baseDockerfile"]


def test_requirements_are_read_without_comments():
    text = "# all\nsix==1.17.0 # exactly\n\n  idna>=3  \nazureml-defaults\nx[y]<2; python_version < '3.12'"

    assert pip(text).requirements == ("six==1.17.0", "idna>=3", 'x[y]<2; python_version < "3.12"')


def test_an_environment_may_be_empty():
    assert pip("").requirements == ()
    assert conda("dependencies:").requirements == ()


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("=3.11", "==3.11.*"),
        ("==3.11.4", "==3.11.*"),
        ("=3.11.*", "==3.11.*"),
        ("=3.11.4.*", "==3.11.*"),
        (" 3.11", "==3.11.*"),
        (" = 3.11", "==3.11.*"),
        ("=3", "==3.*"),
        ("=3.*", "==3.*"),
        (">=3.10", ">=3.10"),
        (" >= 3.10", ">=3.10"),
        (">=3.10.*", ">=3.10"),
        (">=3.9,<3.12", ">=3.9,<3.12"),
        (" >=3.9, <3.12", ">=3.9,<3.12"),
        ("=3.11,!=3.11.2", "==3.11.*,!=3.11.2"),
        ("~=3.10", "~=3.10"),
        ("=3.11.4=h955ad1f_0", "==3.11.*"),
        ("==3.11.4=h955ad1f_0", "==3.11.*"),
        (" 3.11.4 h955ad1f_0", "==3.11.*"),
        ("=3.11=*_cpython", "==3.11.*"),
        (" >=3.9,<3.12 *_cpython", ">=3.9,<3.12"),
    ],
)
def test_python_is_asked_for_as_conda_writes_it_and_a_patch_release_stands_for_its_minor_version(text, spec):
    for channel in ("", "conda-forge::", "conda-forge/linux-64::"):
        assert conda(f"dependencies: ['{channel}python{text}']").python == SpecifierSet(spec)


@pytest.mark.parametrize("line", ["python", "python *", "python=*"])
def test_any_python_will_do(line):
    assert conda(f"dependencies: ['{line}']").python is None


@pytest.mark.parametrize(
    "line",
    [
        *("python=abc", "python=3.11|3.12", "python=>3", "python=3.1x", "python[version='>=3.9']", "python=3.11=a=b"),
        "python=3.11=h1 extra words",
    ],
)
def test_a_python_that_is_not_understood_is_refused_with_what_to_write(line):
    with pytest.raises(EnvironmentInvalid) as refused:
        conda(f'dependencies: ["{line}"]')

    assert refused.value.fields["line"] == line
    assert "write for example python=3.11" in refused.value.detail


def test_the_request_overrides_python_and_variables_of_the_file():
    found = conda(OLD, python_version="3.11", environment_variables={"A": "c"})

    assert found.python == SpecifierSet("==3.11.*")
    assert found.variables == {"A": "c", "N": "1"}


BAD_REQUIREMENTS = [
    *("--index-url https://evil.example", "-i https://evil.example", "--extra-index-url x", "-r /etc/passwd"),
    *("-c constraints.txt", "-e .", "-e git+ssh://git@evil/x", "--find-links /tmp", "--trusted-host x", "--pre"),
    *(
        "six @ file:///etc/passwd",
        "six@https://evil.example/six.whl",
        "git+https://evil.example/x",
        "./six",
        "/etc/passwd",
    ),
    *("../six", "https://evil.example/six.whl", "six==1.0 --hash=sha256:00", "six==1.0 \\", "six; os.system('x')"),
    *(
        "six && touch x",
        "six; touch x",
        "$(touch x)",
        "`touch x`",
        "six\t|x",
        "six==",
        "==1.0",
        "six 1.0",
        "a b c",
        "é",
    ),
]


@pytest.mark.parametrize("line", BAD_REQUIREMENTS)
def test_what_is_no_plain_requirement_is_refused_by_its_line(line):
    with pytest.raises(EnvironmentInvalid) as refused:
        pip(f"idna\n{line}\n")

    assert refused.value.fields["line"] == line.strip()


@pytest.mark.parametrize(
    ("line", "match", "channel"),
    [
        ("numpy", "numpy", None),
        ("numpy=1.20", "numpy[version='=1.20']", None),
        ("numpy 1.20.3 py39_0", "numpy[version='1.20.3',build='py39_0']", None),
        ("numpy=1.26=py311*", "numpy[version='=1.26',build='py311*']", None),
        ("conda-forge::numpy >=1.20, <2", "numpy[version='>=1.20,<2']", "conda-forge"),
        ("pytorch/label/nightly::pytorch", "pytorch", "pytorch/label/nightly"),
        ("scikit_learn=1.4|1.5", "scikit_learn[version='=1.4|1.5']", None),
        ("openssl=1.1.1w=h7f8727e_0", "openssl[version='=1.1.1w',build='h7f8727e_0']", None),
    ],
)
def test_a_conda_package_reaches_the_solver_in_its_own_words(line, match, channel):
    found = conda(f"channels: [here]\ndependencies:\n- python=3.11\n- '{line}'\n")

    assert found.conda_packages == (line,)
    assert [(spec.match(), spec.channel) for spec in found.conda_specs] == [(match, channel)]
    assert found.channels == ("here", *([channel] if channel else []))


@pytest.mark.parametrize(
    "line",
    [
        *("https://x/y.tar.bz2", "/tmp/x.conda", "./x.conda", "numpy[url=https://x/y.conda]", 'numpy[version="1"]'),
        *("numpy[channel=https://x]", "https://x::numpy", "file:///x::numpy", "../x::numpy", "x::y::numpy", "-e ."),
        *(
            "--file x",
            "numpy'",
            "numpy; touch x",
            "$(touch x)",
            "`touch x`",
            "@/etc/passwd",
            "numpy>1 (x)",
            "num py 1 2",
        ),
    ],
)
def test_what_is_no_conda_package_is_refused_by_its_line(line):
    with pytest.raises(EnvironmentInvalid) as refused:
        conda(yaml.safe_dump({"dependencies": ["python=3.11", line]}))

    assert refused.value.fields["line"] == line


@pytest.mark.parametrize(
    "channel",
    [
        *(
            "https://evil.example/x",
            "file:///etc",
            "/etc",
            "../x",
            "x/../y",
            "x::y",
            "a b",
            "$(x)",
            "",
            "x\n",
            1,
            ["x"],
        ),
        *("{{x}}", "x'", "-x", "a/b/c/d/e"),
    ],
)
def test_a_channel_is_a_name_and_nothing_else(channel):
    with pytest.raises(EnvironmentInvalid):
        conda(yaml.safe_dump({"channels": [channel], "dependencies": ["numpy"]}))


def test_channels_count_only_where_conda_packages_are_wanted():
    assert conda("channels: [a, nodefaults, b, a]\ndependencies: [numpy]").channels == ("a", "b")
    assert conda("channels: [a]\ndependencies: [python, pip]").channels == ()


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("numpy", "numpy"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy=1.26=py311h64a7726_0", "numpy==1.26.*"),
        ("conda-forge::numpy=1.26.4=py311h64a7726_0", "numpy==1.26.4"),
        ("numpy 1.26.4 py311h64a7726_0", "numpy==1.26.4"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy >=1.26, <2", "numpy<2,>=1.26"),
        ("scikit_learn=1.4|1.5", "scikit-learn"),
        ("openssl=1.1.1w=h7f8727e_0", "openssl"),
    ],
)
def test_a_conda_package_has_a_requirement_that_comes_closest(line, instead):
    spec = parse(line)

    assert spec is not None
    assert as_pip(spec) == instead


@pytest.mark.parametrize(
    ("real", "kept"), [(False, ("six",)), (True, ("azureml-defaults", "azureml-monitoring~=0.1", "six"))]
)
def test_the_old_systems_scoring_server_is_the_runtime_unless_the_real_one_is_wanted(real, kept):
    lines = ["azureml-defaults", "azureml-monitoring~=0.1", "six"]

    assert pip("\n".join(lines), real_azureml=real).requirements == kept
    document = yaml.safe_dump({"dependencies": [{"pip": lines}]})
    assert conda(document, real_azureml=real).requirements == kept
    definition = {"python": {"condaDependencies": yaml.safe_load(document)}}
    assert old(definition, real_azureml=real).requirements == kept


@pytest.mark.parametrize(
    "line", ["a x" + " " * 200_000 + "y z", "a" * 200_000 + "é", "a" + "=1" * 100_000, "python=" + "3," * 100_000]
)
def test_a_line_without_end_is_read_at_once(line):
    started = time.monotonic()

    with pytest.raises(EnvironmentInvalid) as refused:
        conda(f"dependencies: ['{line}']")

    assert time.monotonic() - started < 2
    assert len(refused.value.detail) < 1000


BAD_FILES = {
    "no mapping": "- a",
    "text": "just text",
    "nothing": "",
    "unknown key": "dependencies: []\nbuild: x",
    "dependencies is a text": "dependencies: python",
    "pip is a text": "dependencies: [{pip: six}]",
    "a number": "dependencies: [1]",
    "a requirement that is a number": "dependencies: [{pip: [1]}]",
    "a requirement that is a list": "dependencies: [{pip: [[six]]}]",
    "another mapping": "dependencies: [{npm: [x]}]",
    "two keys": "dependencies: [{pip: [], npm: []}]",
    "variables is a list": "dependencies: []\nvariables: [a]",
    "a variable that is a mapping": "variables: {A: {b: c}}",
    "tabs": "dependencies:\n\t- python",
    "not closed": "dependencies: [",
    "python object": "!!python/object/apply:os.system ['touch canary']",
    "python name": "dependencies: [!!python/name:os.system ]",
    "two documents": "a: b\n---\nc: d",
    "an impossible date": "name: 2020-13-45",
    "a number of 5000 digits": "name: " + "9" * 5000,
    "deep": "dependencies: " + "[" * 5000,
    "deep in block style": "\n".join(" " * n + "a:" for n in range(400)),
    "unhashable key": "? [a]\n: b",
    "control character": "name: \x00",
    "a recursive list": "dependencies: &a [*a]",
    "a recursive mapping": "&a\nname: *a\nvariables: *a",
    "bad python": "dependencies: ['python=abc']",
    "bad variable name": "variables: {'A=B': c}",
    "variable with a line break in its name": 'variables: {"A\\nB": c}',
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_file_that_cannot_be_read_is_refused(text):
    with pytest.raises(EnvironmentInvalid) as refused:
        conda(text)

    assert len(refused.value.detail) < 1000


def test_a_file_that_is_no_yaml_is_refused_by_its_line():
    with pytest.raises(EnvironmentInvalid) as refused:
        conda("name: a\ndependencies:\n  - python\n bad: x\n")

    assert refused.value.fields["line"] == "line 4"


@pytest.mark.parametrize("where", ["dependencies: [*i]", "dependencies: [{pip: [*i]}]", "variables: {A: *i}"])
def test_a_file_that_unfolds_to_gigabytes_is_refused_at_once(where):
    nested = ["&a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        nested.append(f"&{name} [{', '.join([f'*{before}'] * 9)}]")
    started = time.monotonic()

    with pytest.raises(EnvironmentInvalid):
        conda(f"channels: [{', '.join(nested)}]\n{where}")

    assert time.monotonic() - started < 5


def test_a_line_that_stands_in_a_file_a_million_times_is_refused_at_once():
    line = "a" + ",".join([">=1"] * 20_000)
    repeated = ", ".join(["*a"] * 20_000)
    started = time.monotonic()

    for text in (
        f"x: &a '{line}'\ndependencies: [{{pip: [{repeated}]}}]",
        f"x: &a {{pip: [six, idna]}}\ndependencies: [{repeated}]",
    ):
        with pytest.raises(EnvironmentInvalid):
            conda(text.replace("x:", "prefix:"))

    assert time.monotonic() - started < 10


@pytest.mark.parametrize("name", ["", "A=B", "A B", "1A", "A\0", "A\n", "é"])
def test_a_variable_that_no_process_could_have_is_refused(name):
    with pytest.raises(EnvironmentInvalid):
        pip("six", environment_variables={name: "x"})
    with pytest.raises(EnvironmentInvalid):
        pip("six", environment_variables={"A": "x\0"})


def test_the_first_python_that_fits_is_chosen():
    nodes = ["3.12.1", "3.11.7", "3.8.10", "junk"]

    assert choose_python(None, nodes) == "3.12"
    assert choose_python(SpecifierSet("==3.11.*"), nodes) == "3.11"
    assert choose_python(SpecifierSet("<3.12"), nodes) == "3.11"


@pytest.mark.parametrize("wanted", ["==3.6.*", "==3.8.*", ">=4", "==3.13.*"])
def test_a_python_that_no_node_has_is_refused_with_what_there_is(wanted):
    with pytest.raises(PythonNotAvailable) as refused:
        choose_python(SpecifierSet(wanted), ["3.12.1", "3.11.7", "3.8.10"])

    assert refused.value.fields["available"] == ["3.12.1", "3.11.7"]
