"""Model data collection: what becomes of rows on their way from collect() into files, and never of run()."""

import csv
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from keelway_runtime import collect, log
from keelway_runtime.collect import ModelDataCollector, dropped_rows

OWN = ["$requestId", "$timestamp", "$correlationId"]
FILE = re.compile(r"[A-Za-z0-9._-]+-\d{8}T\d{6}Z-[0-9a-f]{8}\.csv")


class Spool:
    """A spool of this test's own, and what lies in it."""

    def __init__(self, folder):
        self.folder = folder

    def flush(self):
        """Close all files, as at the end of a process."""
        for writer in collect._writers.values():
            writer.close()
        collect._writers.clear()

    @property
    def files(self):
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def tables(self):
        """Header and rows of each file."""
        self.flush()
        assert all(FILE.fullmatch(path.name) for path in self.files), self.files
        return [read(path) for path in self.files]

    def rows(self):
        """The script's own cells of all rows, without our columns."""
        return [row[3:] for _, *rows in self.tables() for row in rows]

    @property
    def size_bytes(self):
        return sum(path.stat().st_size for path in self.files)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture
def events(monkeypatch):
    told = []
    monkeypatch.setattr(log, "event", lambda name, **fields: told.append((name, fields)))
    return told


@pytest.fixture
def spool(monkeypatch, tmp_path, events):
    monkeypatch.setenv("KEELWAY_COLLECT_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("AML_APP_ROOT", str(tmp_path))
    monkeypatch.setattr(collect, "_writers", {})
    monkeypatch.setattr(collect, "_dropped", 0)
    monkeypatch.setattr(collect, "_told_at", -collect.TELL_S)
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.flush()


def eventually(holds, wait_s=10):
    ends_at = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.01)


def test_a_call_is_rows_with_the_request_they_belong_to(spool):
    token = log.request_id.set("request-1")
    told = ModelDataCollector("ridge", "inputs", feature_names=["a", "b"]).collect([[1, 2.5], [3, 4]], "mine")
    log.request_id.reset(token)

    [[header, first, second]] = spool.tables()

    assert header == [*OWN, "a", "b"]
    assert first[0] == second[0] == told["$requestId"] == "request-1"
    assert first[1] == told["$timestamp"]
    assert (first[2:], second[2:]) == (["mine", "1", "2.5"], ["mine", "3", "4"])


def test_a_file_lies_under_model_version_and_designation(spool, tmp_path):
    for version in ("9", "10"):
        (tmp_path / "azureml-models" / "ridge" / version).mkdir(parents=True)
    ModelDataCollector("ridge", designation="inputs").collect([1])
    ModelDataCollector("ridge", identifier="predictions", model_version=3).collect([1])
    ModelDataCollector("other").collect([1])
    ModelDataCollector("other", "signals", collection_name="clicks").collect([1])
    ModelDataCollector("other", "labels", collection_name="not heeded").collect([1])
    spool.flush()

    places = [f"{path.parent.relative_to(spool.folder)}/{path.name.split('-')[0]}" for path in spool.files]
    assert places == [
        *("other/unknown/general/general", "other/unknown/labels/labels", "other/unknown/signals/clicks"),
        *("ridge/10/inputs/inputs", "ridge/3/predictions/predictions"),
    ]


@pytest.mark.parametrize(
    "given", ["../../etc", "/etc/passwd", "a/b", "..", "\0", "ä" * 300, "x" * 300, "", " ", "-rf", "a\nb", 7]
)
def test_a_designation_never_leads_out_of_the_spool(spool, given):
    ModelDataCollector("ridge", given, model_version=given, collection_name=given).collect([1])
    spool.flush()

    [path] = spool.files
    parts = path.relative_to(spool.folder).parts
    assert len(parts) == 4
    assert all(re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9\-._]{0,63}", part) for part in parts[:3])


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 256, ".", None, 3])
def test_a_name_that_no_model_has_is_refused_at_once(name):
    with pytest.raises(ValueError, match="is no name for a model"):
        ModelDataCollector(name)


NUMPY = pytest.importorskip("numpy")
PANDAS = pytest.importorskip("pandas")


@pytest.mark.parametrize(
    ("data", "names", "columns", "rows"),
    [
        ([[1, 2], [3, 4]], None, ["0", "1"], [["1", "2"], ["3", "4"]]),
        ([[1, 2], [3, 4]], ["a"], ["a", "1"], [["1", "2"], ["3", "4"]]),
        ([[1, 2]], ["a", "b", "c"], ["a", "b"], [["1", "2"]]),
        ([1, 2], None, ["0", "1"], [["1", "2"]]),
        ([1, 2], ["y"], ["y"], [["1"], ["2"]]),
        ((1, 2), ["a", "b"], ["a", "b"], [["1", "2"]]),
        (NUMPY.array([[1.5, 2]]), None, ["0", "1"], [["1.5", "2.0"]]),
        (NUMPY.array([1.5, 2]), None, ["0", "1"], [["1.5", "2.0"]]),
        (NUMPY.array(7), None, ["0"], [["7"]]),
        (NUMPY.float32(0.5), None, ["0"], [["0.5"]]),
        ([NUMPY.array([1, 2])], None, ["0", "1"], [["1", "2"]]),
        (NUMPY.array([[[1, 2]]]), None, ["0"], [["[1,2]"]]),
        (NUMPY.array([["a", "b"]]), None, ["0", "1"], [["a", "b"]]),
        (PANDAS.DataFrame({"x": [1, 2], "y": ["a", "b"]}), None, ["x", "y"], [["1", "a"], ["2", "b"]]),
        (PANDAS.DataFrame({"x": [1], "y": [2]}), ["p", "q"], ["p", "q"], [["1", "2"]]),
        (PANDAS.DataFrame([[1, 2]], columns=["x", "x"]), None, ["x.0", "x.1"], [["1", "2"]]),
        (
            PANDAS.DataFrame({"t": PANDAS.to_datetime(["2030-01-02", None])}),
            None,
            ["t"],
            [["2030-01-02T00:00:00"], [""]],
        ),
        (PANDAS.Series([1, 2]), ["y"], ["y"], [["1"], ["2"]]),
        ({"a": 1, "b": [2, 3]}, None, ["a", "b"], [["1", "[2,3]"]]),
        ([{"a": 1}, {"b": 2}], None, ["a", "b"], [["1", ""], ["", "2"]]),
        ("text", None, ["0"], [["text"]]),
        (None, None, ["0"], [[""]]),
        ([True, 10**30, float("nan")], None, ["0", "1", "2"], [["True", str(10**30), "nan"]]),
        ([[1], [2, 3]], None, ["0", "1"], [["1"], ["2", "3"]]),
    ],
)
def test_arrays_frames_lists_and_dicts_are_tables(spool, data, names, columns, rows):
    ModelDataCollector("ridge", "inputs", feature_names=names).collect(data)

    [[header, *found]] = spool.tables()
    assert (header[3:], [row[3:] for row in found]) == (columns, rows)


@pytest.mark.parametrize("data", [[], NUMPY.zeros((0, 3)), PANDAS.DataFrame({"a": []})])
def test_nothing_is_no_file(spool, data):
    ModelDataCollector("ridge", "inputs").collect(data)

    assert spool.tables() == []


@pytest.mark.parametrize("value", ["a,b", 'say "hi"', "two\nlines", "two\r\nlines", "\r", "ünï", "\ud800", "=1+1", ""])
def test_a_cell_comes_back_as_it_was(spool, value):
    ModelDataCollector("ridge", "inputs").collect([[value, 1], [2, value]])

    wanted = value.encode("utf-8", "replace").decode()
    assert spool.rows() == [[wanted, "1"], ["2", wanted]]


def test_numbers_are_the_same_by_either_way(spool):
    numbers = [[0.1, -2, 1e300, 5e-324, 9007199254740991], [1 / 3, 0, -0.0, 1e16, 2]]
    ModelDataCollector("ridge", "inputs").collect(numbers)
    ModelDataCollector("ridge", "labels").collect([*numbers, ["text", 0, 0, 0, 0]])

    fast, slow = spool.tables()
    assert [[float(cell) for cell in row[3:]] for row in fast[1:]] == numbers
    assert [[float(cell) for cell in row[3:]] for row in slow[1:3]] == numbers


def test_calls_of_different_shape_share_a_header(spool):
    collector = ModelDataCollector("ridge", "inputs")
    for row in ({"a": 1}, {"b": 2}, {"a": 3, "b": 4}, {"b": 5}):
        collector.collect(row)

    first, second = sorted(spool.tables(), key=len)
    assert (first[0][3:], second[0][3:]) == (["a"], ["a", "b"])
    assert [row[3:] for row in second[1:]] == [["", "2"], ["3", "4"], ["", "5"]]


def test_keys_without_end_make_neither_endless_columns_nor_endless_open_files(spool):
    collector = ModelDataCollector("ridge", "inputs")
    for n in range(collect.COLUMNS_MAX + 200):
        collector.collect({f"k{n}": n})
        if n == collect.COLUMNS_MAX // 2:
            eventually(lambda: not next(iter(collect._writers.values()))._queue)
            assert len([path for path in spool.files if path.suffix == ".part"]) <= collect.FILES_MAX + 1

    assert max(len(header) for header, *_ in spool.tables()) == collect.COLUMNS_MAX + 3
    assert dropped_rows() == 0


def test_what_cannot_be_a_table_is_dropped_and_counted(spool, events):
    class Hostile:
        def __getattr__(self, name):
            raise RuntimeError("no")

    ModelDataCollector("ridge", "inputs").collect(Hostile())
    ModelDataCollector("ridge", "inputs").collect([[1, object()], [2, 3]])

    assert spool.tables() == []
    assert dropped_rows() == 3
    assert [name for name, _ in events] == ["collected rows dropped"]


def test_without_a_spool_nothing_is_collected_and_that_is_said_once(spool, events, monkeypatch):
    monkeypatch.delenv("KEELWAY_COLLECT_DIR")
    collector = ModelDataCollector("ridge", "inputs")

    told = [collector.collect([1]) for _ in range(3)]

    assert [name for name, _ in events] == ["collection is off"]
    assert dropped_rows() == 0
    assert told[0].keys() == set(OWN)
    assert collector.add_correlations([1], told[0]) == [1]
    monkeypatch.setattr(collect, "_writers", {})


def test_a_file_is_closed_when_it_is_large(spool, monkeypatch):
    monkeypatch.setattr(collect, "FILE_BYTES", 1000)
    collector = ModelDataCollector("ridge", "inputs")
    for n in range(20):
        collector.collect([n, "x" * 90])

    eventually(lambda: sum(path.suffix == ".csv" for path in spool.files) >= 2)
    assert [row[0] for row in sorted(spool.rows(), key=lambda row: int(row[0]))] == [str(n) for n in range(20)]
    assert all(path.stat().st_size <= 1000 for path in spool.files)


def test_a_file_is_closed_when_it_is_old(spool, monkeypatch):
    monkeypatch.setattr(collect, "FILE_AGE_S", 0.2)
    monkeypatch.setattr(collect, "TICK_S", 0.05)
    ModelDataCollector("ridge", "inputs").collect([1])

    eventually(lambda: spool.files and FILE.fullmatch(spool.files[0].name))


def test_a_call_that_fits_no_file_is_dropped(spool, monkeypatch):
    monkeypatch.setattr(collect, "CALL_BYTES", 1000)
    collector = ModelDataCollector("ridge", "inputs")
    collector.collect([["x" * 600], ["y" * 600]])
    collector.collect([["z"]])

    assert spool.rows() == [["z"]]
    assert dropped_rows() == 2


def test_a_full_spool_drops_and_takes_again_once_it_was_emptied(spool, events, monkeypatch):
    monkeypatch.setenv("KEELWAY_COLLECT_MAX_BYTES", "50000")
    monkeypatch.setattr(collect, "MEASURE_S", 0.05)
    collector = ModelDataCollector("ridge", "inputs")
    for _ in range(200):
        collector.collect(["x" * 1000])
    eventually(lambda: dropped_rows() > 100 and not next(iter(collect._writers.values()))._queue)

    assert 40_000 < spool.size_bytes <= 50_000
    assert events[0][1]["reason"] == "the spool is full"
    assert len(events) == 1, "a line for each row would fill the log as well"
    dropped = dropped_rows()
    spool.flush()
    for path in spool.files:  # the node has shipped them
        path.unlink()
    time.sleep(0.1)
    collector.collect(["again"])

    assert spool.rows() == [["again"]]
    assert dropped_rows() == dropped


def test_many_small_files_fill_the_spool_as_well(spool, monkeypatch):
    monkeypatch.setenv("KEELWAY_COLLECT_MAX_BYTES", str(10 * collect.BLOCK_BYTES))
    monkeypatch.setattr(collect, "FILE_AGE_S", 0.0)
    collector = ModelDataCollector("ridge", "inputs")
    for _ in range(30):
        collector.collect([1])

    assert len(spool.tables()) <= 10
    assert dropped_rows() >= 20


def test_a_full_queue_drops_and_does_not_wait(spool, monkeypatch):
    gate = threading.Event()
    keep = collect._Writer._keep
    monkeypatch.setattr(collect._Writer, "_keep", lambda writer, call: gate.wait(20) and keep(writer, call))
    monkeypatch.setattr(collect, "QUEUE_BYTES", 10_000)
    collector = ModelDataCollector("ridge", "inputs")
    began = time.monotonic()
    for _ in range(100):
        collector.collect([["x" * 500], ["y" * 500]])

    assert time.monotonic() - began < 2
    dropped = dropped_rows()
    assert dropped >= 180
    gate.set()
    assert len(spool.rows()) + dropped == 200


def test_a_disk_without_room_drops_whole_rows_and_scoring_goes_on(serve, tmp_path):
    server = serve(
        """
        import resource, signal
        from azureml.monitoring import ModelDataCollector
        from keelway_runtime import collect

        def init():
            global inputs
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # the write that crosses it is a short one
            inputs = ModelDataCollector("ridge", "inputs")

        def run(raw):
            inputs.collect([raw, "x" * 1000])
            return collect.dropped_rows()
        """,
        KEELWAY_COLLECT_DIR=str(tmp_path),
    ).wait_ready()

    answers = [server.score(str(n).encode(), {"content-type": "text/plain"}) for n in range(60)]

    assert {answer.status for answer in answers} == {200}
    server.stop()
    rows = [row for path in tmp_path.rglob("*.csv") for row in read(path)[1:]]
    assert all(row[-1] == "x" * 1000 for row in rows)
    assert len({row[3] for row in rows}) == len(rows)


def test_a_spool_that_cannot_be_made_drops_and_never_raises(spool, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KEELWAY_COLLECT_DIR", str(tmp_path / "file" / "spool"))

    ModelDataCollector("ridge", "inputs").collect([[1], [2]])
    spool.flush()

    assert dropped_rows() == 2


def test_threads_lose_and_mix_nothing(spool):
    collector = ModelDataCollector("ridge", "inputs")

    def work(thread):
        for n in range(100):
            collector.collect({f"t{thread}": n, "same": thread})

    threads = [threading.Thread(target=work, args=[thread]) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = [dict(zip(header, row, strict=True)) for header, *rows in spool.tables() for row in rows]
    assert len(found) == 400
    for thread in range(4):
        mine = [int(row[f"t{thread}"]) for row in found if row["same"] == str(thread)]
        assert sorted(mine) == list(range(100))


def script(spool, code):
    """A process that collects; its standard output."""
    setup = "from keelway_runtime import shims; shims.install()\nfrom azureml.monitoring import ModelDataCollector\n"
    return subprocess.run(
        [sys.executable, "-c", setup + textwrap.dedent(code)],
        env={**os.environ, "KEELWAY_COLLECT_DIR": str(spool.folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_ordinary_end_writes_what_is_queued(spool):
    done = script(spool, "c = ModelDataCollector('ridge', 'inputs')\nfor n in range(500): c.collect([n])")

    assert done.returncode == 0, done.stderr
    assert len(spool.rows()) == 500


def test_what_a_killed_writer_left_is_closed_by_the_next_start(spool):
    killed = script(
        spool,
        """
        import os, signal, time, pathlib
        ModelDataCollector("ridge", "inputs").collect(["before"])
        while not [p for p in pathlib.Path(os.environ["KEELWAY_COLLECT_DIR"]).rglob("*.part") if p.stat().st_size]:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert killed.returncode == -signal.SIGKILL
    assert [path.suffix for path in spool.files] == [".part"]

    ModelDataCollector("ridge", "inputs").collect(["after"])

    assert sorted(spool.rows()) == [["after"], ["before"]]


def test_a_start_leaves_the_files_of_writers_that_live(spool):
    ModelDataCollector("ridge", "inputs").collect(["mine"])
    eventually(lambda: spool.files and spool.files[0].stat().st_size)

    script(spool, "ModelDataCollector('ridge', 'inputs').collect(['other'])")

    assert sorted(path.suffix for path in spool.files) == [".csv", ".part"]
    assert sorted(spool.rows()) == [["mine"], ["other"]]


def _collect_in_child(collector):
    collector.collect(["child"])
    next(reversed(collect._writers.values())).close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_writer_of_its_own(spool):
    collector = ModelDataCollector("ridge", "inputs")
    collector.collect(["parent"])
    eventually(lambda: spool.files and spool.files[0].stat().st_size)
    child = multiprocessing.get_context("fork").Process(target=_collect_in_child, args=[collector])

    child.start()
    child.join(20)

    assert child.exitcode == 0
    assert sorted(spool.rows()) == [["child"], ["parent"]]


def test_ours_stands_in_for_a_real_package_too(tmp_path):
    (tmp_path / "azureml/monitoring").mkdir(parents=True)
    (tmp_path / "azureml/__init__.py").touch()
    (tmp_path / "azureml/monitoring/__init__.py").write_text("class ModelDataCollector: pass")
    code = (
        "from keelway_runtime import shims; shims.install()\n"
        "import azureml.monitoring as m, azureml; print(m.ModelDataCollector.__module__, bool(azureml.__file__))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert done.stdout.strip() == "keelway_runtime.collect True", done.stderr


COLLECTING = """
    import json
    from azureml.monitoring import ModelDataCollector

    def init():
        global inputs, predictions
        inputs = ModelDataCollector("ridge", designation="inputs", feature_names=["a", "b"])
        predictions = ModelDataCollector("ridge", designation="predictions", feature_names=["sum"])

    def run(raw):
        data = json.loads(raw)["data"]
        correlations = inputs.collect(data)
        result = [a + b for a, b in data]
        predictions.collect(predictions.add_correlations(result, correlations))
        return result
"""


def test_inputs_and_predictions_of_a_request_carry_its_id(serve, tmp_path):
    server = serve(COLLECTING, KEELWAY_COLLECT_DIR=str(tmp_path)).wait_ready()
    headers = {"content-type": "application/json", "x-request-id": "mine"}

    answer = server.score({"data": [[1, 2], [3, 4]]}, headers)
    assert server.stop() == 0

    assert answer.json() == [3, 7]
    [inputs] = tmp_path.glob("ridge/unknown/inputs/*.csv")
    [predictions] = tmp_path.glob("ridge/unknown/predictions/*.csv")
    assert [row[0] for row in read(inputs)[1:] + read(predictions)[1:]] == ["mine"] * 4
    assert [row[3:] for row in read(inputs)] == [["a", "b"], ["1", "2"], ["3", "4"]]
    assert [row[3:] for row in read(predictions)] == [["sum"], ["3"], ["7"]]


def test_the_same_script_serves_without_collection(serve):
    server = serve(COLLECTING).wait_ready()

    assert server.score({"data": [[1, 2]]}).json() == [3]
    assert json.loads(server.score({"data": [[2, 2]]}).body) == [4]
    server.wait_for(lambda: len(server.events("collection is off")) == 1)
