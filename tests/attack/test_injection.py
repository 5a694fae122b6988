"""Texts that want to be more than texts."""

import pytest

from tests.support.registry import manifest, open_version

TEXTS = [
    *("'", "''", '"', "' OR '1'='1", "'; DROP TABLE tokens; --", "1; SELECT pg_sleep(10)", "') UNION SELECT secret--"),
    *(
        "\\'",
        "%27",
        "admin'--",
        "/**/OR/**/1=1",
        "$$",
        "{{7*7}}",
        "{0.__class__}",
        "%s%s%n",
        "${jndi:ldap://x}",
        "\u02bc",
    ),
]
FILTERS = ["workspace", "subject", "state", "page_token", "limit", "seen", "wait_s", "name", "order_by"]


@pytest.fixture(scope="module")
def w(api):
    """A workspace with a model."""
    w = f"/v1/workspaces/{api.workspace()}"
    open_version(api.admin, w, "ridge", {"m.pkl": b"x"})
    return w


@pytest.mark.parametrize("text", TEXTS)
def test_a_filter_is_a_value_and_never_sql(api, w, text):
    for path in ("/v1/operations", f"{w}/models", f"{w}/services", f"{w}/audit", "/v1/audit", "/v1/workspaces"):
        for name in FILTERS:
            response = api.admin.get(path, params={name: text})

            assert response.status_code in {200, 404, 422}, (path, name, response.text)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_as_it_was_sent(api, w, text):
    body = {"files": manifest({"m": b"x"}), "description": text, "tags": {text: text}, "framework": text}

    made = api.admin.post(f"{w}/models/texts/versions", json=body).json()

    assert (made["description"], made["tags"], made["framework"]) == (text, {text: text}, text)


def test_postgres_never_saw_a_syntax_error(api, w):
    log = api.stack.layout.log("postgres").read_text(errors="replace")

    assert "syntax error" not in log
    assert "unterminated" not in log
