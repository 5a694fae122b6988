from keelway_standalone.logs import reason, rotate, tail


def test_a_grown_log_is_moved_aside_and_written_on(tmp_path):
    path = tmp_path / "api.log"
    for generation in "abcde":
        with path.open("a") as stream:
            stream.write(generation * 20)
        rotate(path, limit_bytes=10)

    assert path.read_text() == ""
    assert [(tmp_path / f"api.log.{n}").read_text()[0] for n in (1, 2, 3)] == ["e", "d", "c"]
    assert not (tmp_path / "api.log.4").exists()


def test_a_small_log_stays(tmp_path):
    path = tmp_path / "api.log"
    path.write_text("short")

    rotate(path)

    assert path.read_text() == "short"


def test_the_tail_leaves_out_what_an_earlier_start_wrote(tmp_path):
    path = tmp_path / "api.log"
    path.write_text("old\nnew\n")

    assert tail(path, since=4) == ["new"]
    assert tail(path, since=400) == ["old", "new"]
    assert tail(tmp_path / "none.log") == []


def test_common_reasons_are_told_in_words():
    assert reason(["listen tcp: bind: address already in use"]) == "its port is taken"
    assert reason(["write: No space left on device"]) == "the disk is full"
    assert reason(["something else"]) == ""
