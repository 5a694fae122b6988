"""In which turn files are run, and which of them one process runs, when several run tests at once."""

from __future__ import annotations

from itertools import takewhile

from xdist.scheduler import LoadFileScheduling

# Folders whose files share one stack, but for those that have one of their own, or none.
ON_ONE_STACK = ("tests/chaos", "tests/e2e")
APART = frozenset(
    {
        "tests/chaos/test_nemesis.py",
        "tests/chaos/test_registration_crashes.py",
        "tests/chaos/test_up.py",
        "tests/e2e/test_base_image.py",
        "tests/e2e/test_compose_stack.py",
        "tests/e2e/test_pushed_images.py",
    }
)
# What starts most goes first, so that no process is left alone with it; short files fill the gaps in the end.
STAGES = (
    "tests/chaos",
    "tests/e2e",
    "tests/integration/standalone",
    # An API of their own: the shared one has not been started yet.
    "tests/integration/api/test_huge_files.py",
    "tests/integration/api/test_stalled_uploads.py",
    "tests/integration/api/test_largest_files.py",
    # These go over all that is stored in the shared API: others have not stored much yet.
    "tests/integration/api/test_upkeep.py",
    "tests/integration/api/test_background_upkeep.py",
    "tests/integration/api/test_doctor.py",
    "tests/integration/api",
    "tests/attack",
    "tests",
)
# About how many seconds a file takes, or a folder on one stack. The others take a few.
LONG_S = {
    "tests/chaos": 250,
    "tests/chaos/test_nemesis.py": 90,
    "tests/chaos/test_registration_crashes.py": 90,
    "tests/chaos/test_up.py": 60,
    "tests/e2e": 450,
    "tests/e2e/test_base_image.py": 70,
    "tests/e2e/test_pushed_images.py": 60,
    "tests/integration/api/test_packages.py": 20,
    "tests/integration/standalone/test_deaths.py": 60,
    "tests/integration/standalone/test_demo.py": 30,
    "tests/integration/standalone/test_adoption.py": 20,
    "tests/integration/api/test_many_versions.py": 80,
    "tests/integration/api/test_runs.py": 30,
    "tests/integration/api/test_health.py": 30,
    "tests/integration/api/test_run_models.py": 25,
    "tests/integration/api/test_resumed_uploads.py": 25,
    "tests/integration/api/test_services.py": 20,
    "tests/integration/api/test_operations.py": 20,
    "tests/integration/api/test_paging.py": 20,
    "tests/integration/api/test_roles.py": 20,
    "tests/integration/api/test_model_metadata.py": 20,
    "tests/integration/api/test_large_manifests.py": 12,
    "tests/integration/api/test_migrations.py": 10,
    "tests/attack/test_every_field.py": 100,
    "tests/unit/runtime/test_hostile_scripts.py": 40,
    "tests/unit/runtime/test_workers.py": 35,
    "tests/unit/workers/test_processes.py": 25,
    "tests/unit/workers/test_replicas.py": 25,
    "tests/unit/workers/test_inspection.py": 20,
    "tests/unit/runtime/test_nocode.py": 20,
    "tests/unit/runtime/test_slow_callers.py": 15,
    "tests/unit/runtime/test_interpreters.py": 10,
    "tests/unit/runtime/test_examples.py": 10,
    "tests/unit/workers/test_operation.py": 10,
    "tests/unit/runtime/test_script.py": 10,
    "tests/unit/runtime/test_batching.py": 10,
    "tests/unit/cli/test_commands.py": 10,
}
SHORT_S = 3


def unit(nodeid: str) -> str:
    """What is run by one process in one go: a file, or a folder on one stack."""
    file = nodeid.split("::", 1)[0]
    folder = file.rpartition("/")[0]
    return folder if folder in ON_ONE_STACK and file not in APART else file


def turn(nodeid: str) -> tuple[int, int, str]:
    """Where a test stands: by what its unit starts, then the longest first."""
    name = unit(nodeid)
    stage = len(list(takewhile(lambda stage: not name.startswith(stage), STAGES)))
    return stage, -LONG_S.get(name, SHORT_S), name


class Together(LoadFileScheduling):
    """Gives whole units to processes, in their turn."""

    def schedule(self) -> None:
        self.config.option.loadscopereorder = False  # the turn counts, not how many tests a file has
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
