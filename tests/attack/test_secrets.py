"""Secrets stay where they are kept: in no log, in no answer, in no command line."""

import psutil

from keelway_standalone.secrets import MAKERS
from tests.support.registry import register, service
from tests.support.routes import PUBLIC, all_routes, filled


def canaries(api):
    """The parts of all secrets that must appear nowhere."""
    found = {name: api.stack.secrets.read(name) for name in MAKERS}
    tokens = {name: api.stack.secrets.read(name)[16:] for name in MAKERS if name.endswith("_token")}
    return {**found, **tokens}


def stir(api):
    """Make the API do and refuse a bit of everything; all that it answered."""
    workspace = api.workspace()
    register(api.admin, f"/v1/workspaces/{workspace}", "ridge", {"m.pkl": b"x"})
    service(api, workspace)
    token = api.new_token("reader", workspace)["secret"]
    answers = []
    for http in (api.admin, api.worker, api.gateway, api.nobody, api.client(token)):
        for method, template in all_routes():
            answers.append(http.request(method, filled(template, workspace=workspace)))
    answers.append(api.admin.get(f"/v1/workspaces/{workspace}/models/ridge/versions/1/links/m.pkl"))
    answers.append(api.nobody.get("/v1/whoami", headers={"Authorization": f"Bearer {token}x"}))
    answers.append(api.admin.get("/v1/whoami", params={"token": "x"}))
    return token, [f"{dict(answer.headers)}{answer.text}" for answer in answers]


def test_no_secret_is_answered_or_logged(api):
    token, answers = stir(api)
    # A link names the key that signed it, for those who may have the link; what it signs with is in none.
    access_key = api.stack.secrets.read("s3_access_key")
    linked = [answer for answer in answers if "X-Amz-Signature" in answer]
    assert linked
    answers = [answer.replace(access_key, "") if answer in linked else answer for answer in answers]
    logs = [api.log, api.stack.output, *api.stack.layout.logs.glob("*")]
    texts = {str(path): path.read_text(errors="replace") for path in logs if path.is_file()}
    texts |= {f"answer {number}": text for number, text in enumerate(answers)}

    secrets = {**canaries(api), "a token of the test": token[16:]}

    assert len(texts) > len(PUBLIC)
    assert [(name, place) for name, secret in secrets.items() for place, text in texts.items() if secret in text] == []
    assert [place for place, text in texts.items() if "X-Amz-Signature" in text and "answer" not in place] == []


def test_no_secret_stands_in_a_command_line(api):
    lines = [" ".join(process.cmdline()) for process in [psutil.Process(api.process.pid), *api.stack.processes()]]

    assert [name for name, secret in canaries(api).items() if any(secret in line for line in lines)] == []
