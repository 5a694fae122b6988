"""The registry against a model of it in memory: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import os
import random
import uuid
from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from keelway.contracts.files import ManifestFile, manifest_digest
from tests.support.api import Api, wait_until
from tests.support.objects import keys_of, write
from tests.support.registry import manifest, open_version, register, sha256

CONTENTS = [uuid.uuid4().bytes for _ in range(4)]  # few, so that versions share bytes and lose them together
NAMES = ["ridge", "forest"]
ALIASES = ["champion", "candidate"]
EXAMPLES, STEPS = 10, 30
READ_AT_ONCE = 2  # versions whose bytes are read after each step: others have their turn
ANY_NAME, ANY_ALIAS = st.sampled_from(NAMES), st.sampled_from(ALIASES)
ANY_CONTENT, ANY_VERSION = st.sampled_from(CONTENTS), st.integers(0, 9)


@dataclass
class Version:
    """What is known of a version; `is_open`: nobody committed it yet."""

    data: bytes
    is_open: bool = False
    requires_approval: bool = False
    is_approved: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    seen_etag: str = '"never"'

    @property
    def digest(self) -> str:
        """What the registry has to say of its bytes."""
        return manifest_digest([ManifestFile(**file) for file in manifest({"m.pkl": self.data})])


class Registry(RuleBasedStateMachine):
    """Register, open, commit, expire, change, approve, damage, mend, alias, delete and collect, in any order."""

    api: Api

    def __init__(self) -> None:
        super().__init__()
        self.workspace = self.api.workspace()
        self.w = f"/v1/workspaces/{self.workspace}"
        self.versions: dict[tuple[str, int], Version] = {}
        self.counters = dict.fromkeys(NAMES, 0)
        self.aliases: dict[tuple[str, str], int] = {}
        self.moves: dict[tuple[str, str], list[tuple[int | None, int | None]]] = {}
        self.damaged: set[bytes] = set()
        self.steps = 0

    def path(self, name: str, number: int) -> str:
        return f"{self.w}/models/{name}/versions/{number}"

    def chosen(self, which: int) -> tuple[str, int]:
        """One of the versions that there are, or, for 0, one that is not there (any more)."""
        there = sorted(self.versions)
        return there[which % len(there)] if which and there else (NAMES[0], self.counters[NAMES[0]] or 1)

    def is_ready(self, key: tuple[str, int]) -> bool:
        version = self.versions.get(key)
        return version is not None and not version.is_open and version.data not in self.damaged

    def named(self, key: tuple[str, int]) -> list[str]:
        return sorted(alias for (of, alias), number in self.aliases.items() if (of, number) == key)

    @rule(name=ANY_NAME, data=ANY_CONTENT, requires_approval=st.booleans())
    def registers(self, name, data, requires_approval):
        made = register(self.api.admin, self.w, name, {"m.pkl": data}, requires_approval=requires_approval)
        self.counters[name] += 1
        assert made["version"] == self.counters[name]
        self.versions[name, made["version"]] = Version(data, requires_approval=requires_approval)
        self.mended(data)

    @rule(name=ANY_NAME, data=ANY_CONTENT)
    def opens(self, name, data):
        upload = open_version(self.api.admin, self.w, name, {"m.pkl": data})
        self.counters[name] += 1
        assert upload["version"] == self.counters[name]
        for missing in upload["missing"]:
            assert self.api.admin.put(missing["upload_url"], content=data).status_code == 204
        self.versions[name, upload["version"]] = Version(data, is_open=True)
        self.mended(data)

    def mended(self, data: bytes) -> None:
        """What is sent again mends all that have it, soon."""
        if data in self.damaged:
            self.damaged.remove(data)
            keys = [key for key in self.versions if self.is_ready(key) and self.versions[key].data == data]
            for key in keys:
                wait_until(
                    lambda key=key: self.api.admin.get(self.path(*key)).json()["state"] == "ready", f"{key} is mended"
                )

    @rule(which=ANY_VERSION)
    def commits(self, which):
        name, number = self.chosen(which)
        answer = self.api.admin.post(f"{self.path(name, number)}/commit")
        version = self.versions.get((name, number))
        if version is None:
            assert answer.status_code == 404
        elif version.data in self.damaged:
            assert answer.status_code == 409
        else:  # one that was committed before is what it was
            assert answer.status_code == 200
            version.is_open = False

    @rule(which=ANY_VERSION, tag=st.sampled_from("ab"), is_stale=st.booleans())
    def says_otherwise(self, which, tag, is_stale):
        name, number = self.chosen(which)
        version = self.versions.get((name, number))
        shown = self.api.admin.get(self.path(name, number))
        assert shown.status_code == (200 if version else 404)
        if version is None:
            return
        etag = version.seen_etag if is_stale else shown.json()["etag"]
        body = {"tags": {"stage": tag}, "properties": {f"was-{tag}": "yes"}}
        answer = self.api.admin.patch(self.path(name, number), json=body, headers={"If-Match": etag})
        if etag == shown.json()["etag"]:
            assert answer.status_code == 200
            version.tags = {"stage": tag}
            version.properties |= {f"was-{tag}": "yes"}
            version.seen_etag = etag  # from now on it is one of before
        else:
            assert answer.status_code == 412

    @rule(which=ANY_VERSION)
    def takes_a_property_back(self, which):
        name, number = self.chosen(which)
        version = self.versions.get((name, number))
        if version and version.properties:
            body = {"properties": dict.fromkeys(version.properties, "no"), "tags": {}}
            assert self.api.admin.patch(self.path(name, number), json=body).status_code == 409

    @rule(which=ANY_VERSION)
    def approves(self, which):
        name, number = self.chosen(which)
        answer = self.api.admin.post(f"{self.path(name, number)}/approve")
        version = self.versions.get((name, number))
        if version is None:
            assert answer.status_code == 404
        elif answer.status_code == 200:
            version.is_approved = True
        else:
            assert (answer.status_code, version.is_open or version.data in self.damaged) == (409, True)

    @rule(which=ANY_VERSION)
    def finds_damage(self, which):
        name, number = self.chosen(which)
        version = self.versions.get((name, number))
        if version is None or version.data in self.damaged or version.is_open:
            return
        if any(other.is_open and other.data == version.data for other in self.versions.values()):
            return  # whether it was received is known by that upload alone
        for key in keys_of(
            self.api.stack.s3, sha256(version.data)
        ):  # also those that were replaced and not removed yet
            write(self.api.stack.s3, key, b"x" * len(version.data))
        (found,) = self.api.admin.post(f"{self.path(name, number)}/verify").json()["damaged"]
        assert (found["path"], found["damage"]) == ("m.pkl", "changed")
        self.damaged.add(version.data)

    @rule(which=ANY_VERSION, alias=ANY_ALIAS)
    def names_a_version(self, which, alias):
        name, number = self.chosen(which)
        answer = self.api.admin.put(f"{self.w}/models/{name}/aliases/{alias}", json={"version": number})
        if self.is_ready((name, number)):
            assert answer.status_code == 200
            self.moved(name, alias, number)
        else:
            assert answer.status_code in {404, 409}  # 409: it is open or damaged

    @rule(name=ANY_NAME, alias=ANY_ALIAS)
    def removes_an_alias(self, name, alias):
        answer = self.api.admin.delete(f"{self.w}/models/{name}/aliases/{alias}")
        assert answer.status_code == (204 if (name, alias) in self.aliases else 404)
        self.moved(name, alias, None)

    def moved(self, name: str, alias: str, number: int | None) -> None:
        before = self.aliases.pop((name, alias), None)
        if before != number:
            self.moves.setdefault((name, alias), []).append((before, number))
        if number is not None:
            self.aliases[name, alias] = number

    @rule(name=ANY_NAME, alias=ANY_ALIAS)
    def asks_who_held_it(self, name, alias):
        path = f"{self.w}/models/{name}/aliases/{alias}"
        if not any(of == name for of, _ in self.versions):
            return  # a model that is not there has no history that is shown
        moves = self.moves.get((name, alias), [])
        changes = self.api.admin.get(f"{path}/history", params={"limit": 200})
        assert changes.status_code == (200 if moves else 404)
        items = changes.json()["items"][::-1] if moves else []
        assert [(item["from_version"], item["to_version"]) for item in items] == moves
        for item in items[-3:]:
            held = self.api.admin.get(path, params={"at": item["at"]})
            assert (held.json()["version"] if held.status_code == 200 else None) == item["to_version"]

    @rule(which=ANY_VERSION)
    def deletes_a_version(self, which):
        name, number = self.chosen(which)
        answer = self.api.admin.delete(self.path(name, number))
        if (name, number) not in self.versions:
            assert answer.status_code == 404
        elif self.named((name, number)):
            assert answer.status_code == 409
        else:
            assert answer.status_code == 204
            del self.versions[name, number]

    @rule(name=ANY_NAME)
    def deletes_a_model(self, name):
        answer = self.api.admin.delete(f"{self.w}/models/{name}")
        if any(of == name for of, _ in self.aliases):
            assert answer.status_code == 409
        elif answer.status_code == 204:
            self.versions = {key: version for key, version in self.versions.items() if key[0] != name}
        else:
            assert answer.status_code == 404
            assert not any(of == name for of, _ in self.versions)

    @rule(is_late=st.booleans())
    def collects(self, is_late):
        if is_late:  # nobody went on with what is open for so long
            ours = "SELECT id FROM workspaces WHERE name = %s"
            self.api.sql(
                "UPDATE manifests SET touched_at = now() - interval '2 days' "
                f"WHERE NOT is_sealed AND workspace_id = ({ours})",
                self.workspace,
            )
            self.versions = {key: version for key, version in self.versions.items() if not version.is_open}
        assert self.api.admin.post("/v1/gc", params={"grace_s": 0}).status_code == 200

    @invariant()
    def versions_give_their_bytes(self):
        self.steps += 1
        keys = [key for key, version in self.versions.items() if not version.is_open]
        for turn in range(min(READ_AT_ONCE, len(keys))):
            key = keys[(self.steps + turn) % len(keys)]
            answer = self.api.admin.get(f"{self.path(*key)}/files/m.pkl")
            if self.is_ready(key):
                assert (answer.status_code, answer.content) == (200, self.versions[key].data)
            else:
                assert answer.status_code == 409

    @invariant()
    def lists_hold_what_there_is(self):
        items = self.api.admin.get(f"{self.w}/model-versions", params={"limit": 200}).json()["items"]
        listed = {(item["name"], item["version"]): item for item in items}
        assert listed.keys() == self.versions.keys()
        for key, item in listed.items():
            version = self.versions[key]
            state = "uploading" if version.is_open else "ready" if self.is_ready(key) else "corrupt"
            assert (item["state"], item["digest"], item["size_bytes"]) == (state, version.digest, len(version.data))
            assert (item["tags"], item["properties"]) == (version.tags, version.properties)
            assert item["aliases"] == self.named(key)
            assert item["requires_approval"] == version.requires_approval
            assert (item["approved_at"] is not None) == version.is_approved

    @invariant()
    def latest_is_the_highest(self):
        items = self.api.admin.get(f"{self.w}/models", params={"latest_only": True}).json()["items"]
        ready = sorted(key for key in self.versions if self.is_ready(key))  # of each name the highest comes last
        assert {item["name"]: item["latest"]["version"] for item in items} == dict(ready)

    def teardown(self):
        for name, alias in list(self.aliases):
            self.removes_an_alias(name, alias)
        for name in NAMES:
            self.api.admin.delete(f"{self.w}/models/{name}")
        self.collects(is_late=False)
        self.collects(is_late=False)  # what the first round condemned
        for data in CONTENTS:
            assert keys_of(self.api.stack.s3, sha256(data)) == []


def test_registry_and_its_model_agree(api):
    """Thirty steps at a time, others in each run; a failure is printed as the steps that lead to it."""
    number = int(os.environ.get("REGISTRY_SEED") or random.randrange(10**6))
    print(f"REGISTRY_SEED={number}")

    class Ours(Registry):
        pass

    Ours.api = api
    run_state_machine_as_test(
        seed(number)(Ours),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate],  # fewer steps would take many minutes to find
        ),
    )
