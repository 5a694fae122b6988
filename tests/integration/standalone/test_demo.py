"""`keelway demo`, also while somebody kills its processes."""

import os
import re
import signal
import subprocess
import sys

from keelway_standalone.layout import Layout
from keelway_standalone.status import read
from keelway_standalone.strays import everything
from tests.support.stack import until


def test_the_demo_scores_as_the_model_does_though_processes_are_killed(tmp_path):
    data = tmp_path / "data"
    with (tmp_path / "said").open("w") as output:
        demo = subprocess.Popen([sys.executable, "-m", "keelway_standalone", "demo", "--data-dir", data], stdout=output)
    said = (tmp_path / "said").read_text

    until(lambda: "deploying" in said() or demo.poll() is not None, "the deployment begins", 60)
    for child in read(Layout.at(data).status)["children"]:
        if child["name"] in {"api", "redis", "gateway"}:
            os.kill(child["pid"], signal.SIGKILL)
    code = demo.wait(180)

    assert code == 0, said()
    assert "service answers" in said()
    assert "api ended (killed by SIGKILL)" in Layout.at(data).log("up").read_text()
    *steps, total = [float(took) for took in re.findall(r"^ *([0-9.]+) s  ", said(), flags=re.MULTILINE)]
    assert round(sum(steps), 1) == total
    assert "whoami" not in said(), "a hint for who stays"
    assert everything(Layout.at(data)) == []
