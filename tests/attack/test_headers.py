"""Headers that want to be believed, and requests that want to be two."""

import socket

import pytest


def raw(api, text):
    """Everything that is answered to some bytes until the connection closes."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(text)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
    return received


def request(api, *headers, path="/v1/whoami", method="GET", body=b""):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    return raw(api, "\r\n".join([*lines, "", ""]).encode() + body)


SPOOFS = [
    "X-Forwarded-Proto: https",
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Host: evil.example",
    "Forwarded: host=evil.example;proto=https",
    "X-Forwarded-Prefix: /evil",
    "X-Original-URL: /livez",
    "X-Rewrite-URL: /livez",
    "X-HTTP-Method-Override: GET",
]


@pytest.mark.parametrize("header", SPOOFS)
def test_what_a_proxy_would_say_is_not_believed(api, header):
    token = f"Authorization: Bearer {api.token('admin')}"

    assert request(api, header).startswith(b"HTTP/1.1 401")
    redirected = request(api, token, header, path="/v1/whoami/").lower()

    assert b"evil" not in redirected
    assert b"https://" not in redirected
    assert b"location: http://localhost/v1/whoami" in redirected


SMUGGLERS = [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 1e3\r\n\r\n",
    b"Content-Length: \xb2\r\n\r\n",
    b"X: a\rb\r\n\r\n",
    b"X: \0\r\n\r\n",
]


@pytest.mark.parametrize("rest", SMUGGLERS)
def test_a_request_with_two_readings_is_refused(api, rest):
    answer = raw(api, b"POST /v1/workspaces HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + rest)

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 501", b""))
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b"HTTP/1.1 200" not in answer


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_no_page_of_another_origin_is_let_in(api, origin, method):
    response = api.nobody.request(
        method, "/v1/workspaces", headers={"Origin": origin, "Access-Control-Request-Method": method}
    )

    assert response.status_code == 401
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert "set-cookie" not in response.headers
