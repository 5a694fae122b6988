"""Lists that are asked for again: what was written before is shown only while it is still true."""

import itertools

import pytest

from tests.support.objects import remove
from tests.support.registry import register, service, sha256

LISTS = ["model-versions", "models", "models/ridge/versions"]
LIMITS = itertools.count(60)


@pytest.fixture
def ridge(api, w):
    """A model of three versions, of which every list has been read."""
    for data in (b"1", b"2", w.encode()):
        register(api.admin, w, "ridge", {"m.pkl": data}, requires_approval=True)
    for path in LISTS:
        shown(api, w, path)


def shown(api, w, path):
    """What a list shows: the same to one who asked before as to one who asks for the first time."""
    known, fresh = (api.admin.get(f"{w}/{path}", params={"limit": limit}).json() for limit in (50, next(LIMITS)))
    assert known == fresh
    assert api.admin.get(f"{w}/{path}", params={"limit": 50}).json() == fresh
    return known["items"]


def put_alias(api, w):
    assert api.admin.put(f"{w}/models/ridge/aliases/champion", json={"version": 3}).status_code == 200


def deploy(api, w):
    assert api.admin.post(f"{w}/models/ridge/versions/3/approve").status_code == 200
    service(api, w.rsplit("/", 1)[1], models=["ridge:3"])
    used_by = {item["version"]: item["used_by"] for item in shown(api, w, "model-versions")}
    assert used_by[3] == ["services/ridge-svc"]


def lose_bytes(api, w):
    remove(api.stack.s3, sha256(w.encode()))
    # A round looks first at what was not looked at for longest, and ends when its time is over.
    api.sql("UPDATE blobs SET verified_at = now() - interval '1 year' WHERE sha256 = %s", sha256(w.encode()))
    assert api.admin.post("/v1/scrub").status_code == 200


CHANGES = {
    "tags": lambda api, w: api.admin.patch(f"{w}/models/ridge/versions/3", json={"tags": {"team": "t"}}),
    "an approval": lambda api, w: api.admin.post(f"{w}/models/ridge/versions/3/approve"),
    "an alias": put_alias,
    "a service": deploy,
    "a label": lambda api, w: api.sql("""UPDATE model_versions SET safety = '{"label": "inert"}' WHERE version = 3"""),
    "lost bytes": lose_bytes,
    "one more": lambda api, w: register(api.admin, w, "ridge", {"m.pkl": b"more"}),
    "one less": lambda api, w: api.admin.delete(f"{w}/models/ridge/versions/3"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_list_that_was_read_before_shows_a_change_at_once(api, w, ridge, change):
    before = [shown(api, w, path) for path in LISTS]

    change(api, w)

    after = [shown(api, w, path) for path in LISTS]
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_an_alias_that_goes_and_comes_back_is_shown_as_it_is(api, w, ridge):
    def aliases():
        return {item["version"]: item["aliases"] for item in shown(api, w, "model-versions")}

    put_alias(api, w)
    assert aliases()[3] == ["champion"]
    api.admin.put(f"{w}/models/ridge/aliases/champion", json={"version": 2})
    assert (aliases()[3], aliases()[2]) == ([], ["champion"])
    put_alias(api, w)
    assert (aliases()[3], aliases()[2]) == (["champion"], [])
    api.admin.delete(f"{w}/models/ridge/aliases/champion")
    assert (aliases()[3], aliases()[2]) == ([], [])


def test_a_page_that_was_read_is_nobody_elses(api, w, ridge):
    other = f"/v1/workspaces/{api.workspace()}"

    assert shown(api, other, "model-versions") == shown(api, other, "models") == []
    assert api.admin.get(f"{other}/models/ridge/versions").status_code == 404


def test_a_list_that_became_empty_is_empty(api, w, ridge):
    assert api.admin.delete(f"{w}/models/ridge").status_code == 204

    assert shown(api, w, "model-versions") == shown(api, w, "models") == []
    assert api.admin.get(f"{w}/models/ridge/versions").status_code == 404
