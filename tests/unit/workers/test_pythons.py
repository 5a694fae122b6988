"""Which interpreters a node has."""

import sys
import threading

from keelway_workers.pythons import find_pythons


def test_each_interpreter_is_asked_once_however_many_want_to_know_at_once(tmp_path):
    asked = tmp_path / "asked"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho once >> {asked}\nexec {sys.executable} "$@"\n')
    python.chmod(0o700)
    found = []

    threads = [threading.Thread(target=lambda: found.append(find_pythons(str(python)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 6
    assert {one.version for pythons in found for one in pythons} == {sys.version.split()[0]}
    assert asked.read_text().split() == ["once"]
