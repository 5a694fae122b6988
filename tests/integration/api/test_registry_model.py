"""The registry against a model of it in memory: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import uuid

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tests.support.api import Api
from tests.support.objects import keys_of
from tests.support.registry import open_version, register, sha256

CONTENTS = [uuid.uuid4().bytes for _ in range(4)]  # few, so that versions share bytes and lose them together
NAMES = ["ridge", "forest"]
ALIASES = ["champion", "candidate"]


class Registry(RuleBasedStateMachine):
    """Register, open, commit, alias, delete and collect, in any order."""

    api: Api

    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.w = f"/v1/workspaces/{self.api.workspace()}"
        self.versions: dict[tuple[str, int], bytes] = {}
        self.counters = dict.fromkeys(NAMES, 0)
        self.aliases: dict[tuple[str, str], int] = {}

    @rule(name=st.sampled_from(NAMES), data=st.sampled_from(CONTENTS))
    def registers(self, name, data):
        made = register(self.api.admin, self.w, name, {"m.pkl": data})
        self.counters[name] += 1
        assert made["version"] == self.counters[name]
        self.versions[name, made["version"]] = data

    @rule(target=opened, name=st.sampled_from(NAMES), data=st.sampled_from(CONTENTS))
    def opens(self, name, data):
        upload = open_version(self.api.admin, self.w, name, {"m.pkl": data})
        self.counters[name] += 1
        assert upload["version"] == self.counters[name]
        for missing in upload["missing"]:
            assert self.api.admin.put(missing["upload_url"], content=data).status_code == 204
        return name, upload["version"], data

    @rule(upload=consumes(opened))
    def commits(self, upload):
        name, version, data = upload
        answer = self.api.admin.post(f"{self.w}/models/{name}/versions/{version}/commit")
        if answer.status_code == 200:
            self.versions[name, version] = data
        else:  # the model was deleted with its open versions
            assert answer.status_code == 404

    @rule(name=st.sampled_from(NAMES), alias=st.sampled_from(ALIASES), number=st.integers(1, 6))
    def names_a_version(self, name, alias, number):
        answer = self.api.admin.put(f"{self.w}/models/{name}/aliases/{alias}", json={"version": number})
        if (name, number) in self.versions:
            assert answer.status_code == 200
            self.aliases[name, alias] = number
        else:
            assert answer.status_code in {404, 409}  # 409: it is still open

    @rule(name=st.sampled_from(NAMES), alias=st.sampled_from(ALIASES))
    def removes_an_alias(self, name, alias):
        answer = self.api.admin.delete(f"{self.w}/models/{name}/aliases/{alias}")
        assert answer.status_code == (204 if self.aliases.pop((name, alias), None) else 404)

    @rule(name=st.sampled_from(NAMES), number=st.integers(1, 6))
    def deletes_a_version(self, name, number):
        if (name, number) not in self.versions:
            return
        answer = self.api.admin.delete(f"{self.w}/models/{name}/versions/{number}")
        if number in [held for (of, _), held in self.aliases.items() if of == name]:
            assert answer.status_code == 409
        else:
            assert answer.status_code == 204
            del self.versions[name, number]

    @rule(name=st.sampled_from(NAMES))
    def deletes_a_model(self, name):
        answer = self.api.admin.delete(f"{self.w}/models/{name}")
        if any(of == name for of, _ in self.aliases):
            assert answer.status_code == 409
        elif answer.status_code == 204:
            self.versions = {key: data for key, data in self.versions.items() if key[0] != name}
        else:
            assert answer.status_code == 404
            assert not any(of == name for of, _ in self.versions)

    @rule()
    def collects(self):
        assert self.api.admin.post("/v1/gc", params={"grace_s": 0}).status_code == 200

    @invariant()
    def every_version_gives_its_bytes(self):
        for (name, number), data in self.versions.items():
            answer = self.api.admin.get(f"{self.w}/models/{name}/versions/{number}/files/m.pkl")
            assert (answer.status_code, answer.content) == (200, data)

    @invariant()
    def lists_hold_what_there_is(self):
        items = self.api.admin.get(f"{self.w}/model-versions", params={"limit": 200}).json()["items"]
        ready = {(item["name"], item["version"]): item for item in items if item["state"] == "ready"}
        assert ready.keys() == self.versions.keys()
        for (name, number), item in ready.items():
            held = sorted(alias for (of, alias), at in self.aliases.items() if (of, at) == (name, number))
            assert item["aliases"] == held

    @invariant()
    def latest_is_the_highest(self):
        for name in NAMES:
            numbers = [number for of, number in self.versions if of == name]
            answer = self.api.admin.get(f"{self.w}/models/{name}/versions/latest")
            assert (answer.json()["version"] if numbers else answer.status_code) == (max(numbers) if numbers else 404)

    def teardown(self):
        for name, alias in list(self.aliases):
            self.removes_an_alias(name, alias)
        for name in NAMES:
            self.api.admin.delete(f"{self.w}/models/{name}")
        self.collects()
        self.collects()  # what the first round condemned
        for data in CONTENTS:
            assert keys_of(self.api.stack.s3, sha256(data)) == []


def test_registry_and_its_model_agree(api):
    """Thirty steps at a time; a failure is printed as the steps that lead to it."""

    class Ours(Registry):
        pass

    Ours.api = api
    test = Ours.TestCase
    test.settings = settings(
        max_examples=8,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    test().runTest()
