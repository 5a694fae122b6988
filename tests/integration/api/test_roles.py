"""What each role may do: the whole matrix, and nothing of another tenant."""

import pytest

from tests.support.problems import assert_problem
from tests.support.routes import PUBLIC, all_routes, filled

READER, CONTRIBUTOR, DEPLOYER, ADMIN = "reader", "contributor", "deployer", "admin"
LADDER = [READER, CONTRIBUTOR, DEPLOYER, ADMIN]
W = "/v1/workspaces/{workspace}"
OPERATION = "/v1/operations/{operation_id}"
MODEL = W + "/models/{name}/versions"
ALIASES = W + "/models/{name}/aliases"
RUNS = W + "/experiments/{experiment}/runs"
RUN = RUNS + "/{run}"
ENVIRONMENT = W + "/environments/{name}/versions"

IN_WORKSPACE = {  # the lowest role for each route below a workspace
    ("GET", W): READER,
    ("PATCH", W): ADMIN,
    ("GET", W + "/audit"): ADMIN,
    ("GET", W + "/models"): READER,
    ("GET", W + "/models/{name}"): READER,
    ("DELETE", W + "/models/{name}"): CONTRIBUTOR,
    ("GET", W + "/model-versions"): READER,
    ("GET", ALIASES): READER,
    ("GET", ALIASES + "/{alias}"): READER,
    ("PUT", ALIASES + "/{alias}"): CONTRIBUTOR,
    ("DELETE", ALIASES + "/{alias}"): CONTRIBUTOR,
    ("GET", ALIASES + "/{alias}/history"): READER,
    ("POST", MODEL): CONTRIBUTOR,
    ("GET", MODEL): READER,
    ("POST", MODEL + ":upload"): CONTRIBUTOR,
    ("GET", MODEL + "/{version}"): READER,
    ("PATCH", MODEL + "/{version}"): CONTRIBUTOR,
    ("DELETE", MODEL + "/{version}"): CONTRIBUTOR,
    ("POST", MODEL + "/{version}/approve"): DEPLOYER,
    ("POST", MODEL + "/{version}/verify"): READER,
    ("PUT", MODEL + "/{version}/signature"): CONTRIBUTOR,
    ("GET", MODEL + "/{version}/signature"): READER,
    ("POST", MODEL + "/{version}/commit"): CONTRIBUTOR,
    ("POST", MODEL + "/{version}/inspect"): CONTRIBUTOR,
    ("GET", MODEL + "/{version}/files"): READER,
    ("GET", MODEL + "/{version}/files/{path:path}"): READER,
    ("GET", MODEL + "/{version}/links/{path:path}"): READER,
    ("GET", MODEL + "/{version}/archive"): READER,
    ("POST", W + "/snapshots"): CONTRIBUTOR,
    ("GET", W + "/snapshots/{digest}"): READER,
    ("POST", W + "/snapshots/{digest}/commit"): CONTRIBUTOR,
    ("GET", W + "/environments"): READER,
    ("POST", ENVIRONMENT): CONTRIBUTOR,
    ("GET", ENVIRONMENT): READER,
    ("GET", ENVIRONMENT + "/{version}"): READER,
    ("GET", ENVIRONMENT + "/{version}/lock"): READER,
    ("GET", ENVIRONMENT + "/{version}/lock/diff"): READER,
    ("GET", ENVIRONMENT + "/{version}/definition"): READER,
    ("POST", ENVIRONMENT + "/{version}/build"): CONTRIBUTOR,
    ("GET", W + "/images"): READER,
    ("GET", W + "/images/{identity}"): READER,
    ("DELETE", W + "/images/{identity}"): CONTRIBUTOR,
    ("GET", W + "/images/{identity}/archive"): READER,
    ("GET", W + "/images/{identity}/sbom"): READER,
    ("POST", W + "/packages"): CONTRIBUTOR,
    ("GET", W + "/packages"): READER,
    ("GET", W + "/packages/{package_id}"): READER,
    ("DELETE", W + "/packages/{package_id}"): CONTRIBUTOR,
    ("GET", W + "/packages/{package_id}/download"): READER,
    ("GET", W + "/packages/{package_id}/sbom"): READER,
    ("GET", W + "/packages/{package_id}/registry"): READER,
    ("GET", W + "/experiments"): READER,
    ("POST", RUNS): CONTRIBUTOR,
    ("GET", RUNS): READER,
    ("GET", RUN): READER,
    ("PATCH", RUN): CONTRIBUTOR,
    ("POST", RUN + "/metrics"): CONTRIBUTOR,
    ("GET", RUN + "/metrics"): READER,
    ("POST", RUN + "/outputs"): CONTRIBUTOR,
    ("POST", RUN + "/outputs/{upload}/commit"): CONTRIBUTOR,
    ("GET", RUN + "/outputs"): READER,
    ("POST", RUN + "/register"): CONTRIBUTOR,
    ("POST", RUN + "/register-best"): CONTRIBUTOR,
    ("GET", W + "/services"): READER,
    ("POST", W + "/services"): DEPLOYER,
    ("GET", W + "/services/{name}"): READER,
    ("PATCH", W + "/services/{name}"): DEPLOYER,
    ("DELETE", W + "/services/{name}"): DEPLOYER,
    ("POST", W + "/services/{name}/rollback"): DEPLOYER,
    ("POST", W + "/services/{name}/restart"): DEPLOYER,
    ("GET", W + "/services/{name}/revisions"): READER,
    ("GET", W + "/services/{name}/logs"): READER,
    ("GET", W + "/services/{name}/collected"): READER,
    ("GET", W + "/services/{name}/collected/{path:path}"): READER,
    ("DELETE", W + "/services/{name}/collected"): DEPLOYER,
}
EVERYWHERE = {  # who passes on the other routes; a role of people counts here only when it holds everywhere
    ("GET", "/v1/audit"): {ADMIN},
    ("GET", "/v1/whoami"): {*LADDER, "worker", "gateway"},
    ("GET", "/v1/workspaces"): {*LADDER, "worker", "gateway"},
    ("POST", "/v1/workspaces"): {ADMIN},
    ("GET", "/v1/tokens"): {ADMIN},
    ("POST", "/v1/tokens"): {ADMIN},
    ("DELETE", "/v1/tokens/{token_id}"): {ADMIN},
    ("GET", "/v1/nodes"): set(LADDER),
    ("PUT", "/v1/nodes/{name}"): {"worker"},
    ("GET", "/v1/nodes/{name}/desired"): {"worker"},
    ("PUT", "/v1/nodes/{name}/observed"): {"worker"},
    ("POST", "/v1/nodes/{name}/logs"): {"worker"},
    ("PUT", "/v1/nodes/{name}/replicas/{replica}/collected/{model}/{version}/{designation}/{file}"): {"worker"},
    ("GET", "/v1/blobs/{sha256}"): {"worker"},
    ("PUT", "/v1/blobs/{sha256}"): {*LADDER, "worker", "gateway"},  # 404 unless an open upload of theirs lists it
    ("GET", "/v1/blobs/{sha256}/upload"): {*LADDER, "worker", "gateway"},  # likewise
    ("POST", "/v1/gc"): {ADMIN},
    ("POST", "/v1/scrub"): {ADMIN},
    ("GET", "/v1/gateway/routes"): {"gateway", ADMIN},
    ("GET", "/v1/operations"): {*LADDER, "worker", "gateway"},
    ("GET", OPERATION): {*LADDER, "worker", "gateway"},  # 404 for what they may not see
    ("POST", OPERATION + "/cancel"): {*LADDER, "worker", "gateway"},
    ("GET", OPERATION + "/logs"): {*LADDER, "worker", "gateway"},
    ("POST", OPERATION + "/claim"): {"worker"},
    ("POST", OPERATION + "/heartbeat"): {"worker"},
    ("POST", OPERATION + "/reports"): {"worker"},
    ("POST", OPERATION + "/replicas"): {"worker"},
    ("GET", OPERATION + "/replicas"): {"worker"},
    ("POST", OPERATION + "/activate"): {"worker"},
    ("POST", OPERATION + "/inspections"): {"worker"},
    ("POST", OPERATION + "/files"): {"worker"},
    ("POST", OPERATION + "/files/{digest}/commit"): {"worker"},
    ("GET", OPERATION + "/images/{identity}"): {"worker"},
    ("GET", "/statusz"): {*LADDER, "worker", "gateway"},
    ("GET", "/metrics"): {*LADDER, "worker", "gateway"},
    ("GET", "/openapi.json"): {*LADDER, "worker", "gateway"},
}
# A body that is refused: whoever passes the check of the role gets 422, and nothing is made.
BODY = {"no_such_field": True}


@pytest.fixture(scope="module")
def tenant(api):
    """A workspace, and a client for each role in it."""
    workspace = api.workspace()
    return workspace, {role: api.as_role(role, workspace) for role in [*LADDER, "worker", "gateway"]}


@pytest.fixture(scope="module")
def everywhere(api):
    """A client for each role that holds everywhere."""
    return {role: api.as_role(role) for role in [*LADDER, "worker", "gateway"]}


def call(http, method, path):
    return http.request(method, path, json=BODY if method in {"POST", "PUT", "PATCH"} else None)


def test_the_matrix_names_every_route():
    listed = {*IN_WORKSPACE, *EVERYWHERE}

    assert {route for route in all_routes() if route[1] not in PUBLIC} == listed


@pytest.mark.parametrize(("method", "template"), IN_WORKSPACE)
def test_a_role_in_a_workspace_opens_what_it_should(tenant, method, template):
    workspace, clients = tenant
    enough = LADDER[LADDER.index(IN_WORKSPACE[method, template]) :]

    for role in LADDER:
        response = call(clients[role], method, filled(template, workspace=workspace))

        if role in enough:
            assert response.status_code in {200, 404, 422}, (role, response.text)
        else:
            assert_problem(response, "forbidden")
    for role in ("worker", "gateway"):
        assert_problem(call(clients[role], method, filled(template, workspace=workspace)), "not-found")


@pytest.mark.parametrize(("method", "template"), IN_WORKSPACE)
def test_another_tenant_s_workspace_is_answered_like_one_that_does_not_exist(api, tenant, method, template):
    _, clients = tenant
    foreign, unknown = api.workspace(), "w-" + "0" * 10
    for role in LADDER:
        bodies = []
        for workspace in (foreign, unknown):
            response = call(clients[role], method, filled(template, workspace=workspace))
            document = assert_problem(response, "not-found")
            document.pop("request_id")
            bodies.append(str(document).replace(workspace, "W"))
        assert bodies[0] == bodies[1]


@pytest.mark.parametrize(("method", "template"), EVERYWHERE)
def test_a_role_everywhere_opens_what_it_should(everywhere, method, template):
    allowed = EVERYWHERE[method, template]
    path = filled(template)

    for role, http in everywhere.items():
        response = call(http, method, path)

        if role in allowed:
            assert response.status_code not in {401, 403, 500}, (role, response.text)
        else:
            assert_problem(response, "forbidden")


@pytest.mark.parametrize(
    ("method", "template"),
    [route for route, roles in EVERYWHERE.items() if len(roles) < 6],
)
def test_a_role_in_one_workspace_is_none_everywhere(tenant, method, template):
    for http in tenant[1].values():
        assert_problem(call(http, method, filled(template)), "forbidden")


def test_the_lists_show_only_what_belongs_to_the_caller(api, tenant):
    workspace, clients = tenant
    api.workspace()

    for role in LADDER:
        seen = clients[role].get("/v1/workspaces").json()["items"]
        assert [found["name"] for found in seen] == [workspace]
    assert clients["worker"].get("/v1/workspaces").json()["items"] == []
