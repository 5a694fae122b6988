"""What is not HTTP, or not what the script declared: each gets its status and leaves the connection as it should be."""

from __future__ import annotations

from typing import NamedTuple

import psutil
import pytest

from tests.support.raw_http import Answer, Raw, request, scoring

DECLARED = """
    import numpy as np
    from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
    from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
    from inference_schema.schema_decorators import input_schema

    def init():
        pass

    @input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]])))
    @input_schema("name", StandardPythonParameterType("ann"))
    @input_schema("scale", StandardPythonParameterType(1))
    def run(data, name="none", scale=1):
        return {"sum": float(data.sum()), "name": name, "scale": scale}
"""
MAX_BODY_BYTES = 1_000_000
ROUNDS = 20
MEBIBYTE = 1024 * 1024
ENDS = False  # the server closes afterwards
STAYS = True  # the next request on the same connection is answered
NOTHING: list[int] = []  # it closes without an answer

LINE = b"GET /livez HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
POST = b"POST /score HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GOOD = b'{"data": [[1, 2]]}'
SECOND = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Row(NamedTuple):
    """What is sent, and the statuses of all that comes back. `cut`: the caller ends its side after it."""

    name: str
    sent: bytes
    statuses: list[int]
    stays: bool = ENDS
    cut: bool = False
    interim: int = 0
    says: str = ""


def line(name: str, sent: bytes, *statuses: int, stays: bool = ENDS) -> Row:
    """Something wrong with the first line; the headers are good."""
    return Row(f"line: {name}", sent + b"\r\n" + HOST + b"\r\n", [*statuses], stays)


def header(name: str, sent: bytes, *statuses: int, stays: bool = ENDS, says: str = "") -> Row:
    """Something wrong with a header; the rest is good."""
    return Row(f"header: {name}", LINE + HOST + sent + b"\r\n\r\n", [*statuses], stays, says=says)


def framing(name: str, headers: bytes, body: bytes, *statuses: int, stays: bool = ENDS, cut: bool = False) -> Row:
    """Something wrong with where a body ends."""
    return Row(f"framing: {name}", POST + headers + b"\r\n\r\n" + body, [*statuses], stays, cut)


def chunks(name: str, body: bytes, *statuses: int, stays: bool = ENDS, cut: bool = False) -> Row:
    """Something wrong with chunks."""
    return Row(f"chunks: {name}", CHUNKED + body, [*statuses], stays, cut)


def body(name: str, sent: bytes | str, status: int, *headers: str, says: str = "") -> Row:
    """Good HTTP, but not what run() declared, or hardly."""
    data = sent if isinstance(sent, bytes) else sent.encode()
    return Row(f"body: {name}", scoring(data, *headers), [status], STAYS, says=says)


LINES = [
    line("a method in lower case", b"get /livez HTTP/1.1", 400),
    line("a method that does not exist", b"BREW /livez HTTP/1.1", 400),
    line("no method", b"/livez HTTP/1.1", 400),
    line("no version", b"GET /livez", 505),
    line("no address", b"GET HTTP/1.1", 400),
    line("HTTP/0.9", b"GET /livez HTTP/0.9", 505),
    line("HTTP/1.2", b"GET /livez HTTP/1.2", 400),
    line("HTTP/2.0", b"GET /livez HTTP/2.0", 505),
    line("HTTP/3.7", b"GET /livez HTTP/3.7", 400),
    line("a version in lower case", b"GET /livez http/1.1", 400),
    line("another protocol's version", b"GET /livez HTCPCP/1.0", 400),
    Row("line: the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    Row("line: a TLS hello", bytes.fromhex("16030100c8010000c40303") + bytes(range(40)), [400]),
    Row("line: SSH", b"SSH-2.0-OpenSSH_9.6\r\n", [400]),
    line("two spaces before the address", b"GET  /livez HTTP/1.1", 200, stays=STAYS),
    line("a tab for a space", b"GET\t/livez HTTP/1.1", 400),
    line("a space in the address", b"GET /li vez HTTP/1.1", 400),
    line("a control character in the address", b"GET /li\x01vez HTTP/1.1", 400),
    line("NUL in the address", b"GET /li\x00vez HTTP/1.1", 400),
    line("NUL before it", b"\x00GET /livez HTTP/1.1", 400),
    line("empty lines before it", b"\r\n\r\nGET /livez HTTP/1.1", 200, stays=STAYS),
    Row("line: empty lines for ever", b"\r\n" * 40_000, [431]),
    line("an address of 9,000 bytes", b"GET /" + b"a" * 9000 + b" HTTP/1.1", 414),
    Row("line: an address that does not end", b"GET /" + b"a" * 100_000, [414]),
    line("an address with its host", b"GET http://localhost/livez HTTP/1.1", 200, stays=STAYS),
    line("an address with a host and a port of letters", b"GET http://localhost:abc/livez HTTP/1.1", 400, stays=STAYS),
    line("an address of host and port only", b"GET localhost:80 HTTP/1.1", 400),
    line("an asterisk for an address", b"OPTIONS * HTTP/1.1", 404, stays=STAYS),
    line("CONNECT", b"CONNECT localhost:80 HTTP/1.1", 400),
    line("a percent sign that escapes nothing", b"GET /livez%zz HTTP/1.1", 404, stays=STAYS),
    line("an escaped NUL", b"GET /livez%00 HTTP/1.1", 404, stays=STAYS),
    line("an escape that is not UTF-8", b"GET /livez%c0%af HTTP/1.1", 404, stays=STAYS),
    line("UTF-8 in the address", "GET /zürich HTTP/1.1".encode(), 400),
    line("a path that climbs", b"GET /../../etc/passwd HTTP/1.1", 404, stays=STAYS),
    Row("line: LF alone", LINE.replace(b"\r\n", b"\n") + b"Host: localhost\n\n", [400]),
    Row("line: CR alone", LINE.replace(b"\r\n", b"\r") + b"Host: localhost\r\r", [400]),
]

HEADERS = [
    Row("header: no Host", LINE + b"\r\n", [400], STAYS, says="Host"),
    Row("header: no Host in HTTP/1.0", b"GET /livez HTTP/1.0\r\n\r\n", [200]),
    header("two Hosts", b"Host: localhost", 400, stays=STAYS, says="Host"),
    Row("header: two Hosts in one", LINE + b"Host: a, b\r\n\r\n", [400], STAYS, says="Host"),
    header("a folded value", b"A: b\r\n c", 400),
    Row("header: a space before the first", LINE + b" " + HOST + b"\r\n", [400]),
    header("a space before the colon", b"A : b", 400),
    header("a space in the name", b"A b: c", 400),
    header("an empty name", b": b", 400),
    header("no colon", b"abc", 400),
    header("NUL in the name", b"A\x00: b", 400),
    header("NUL in the value", b"A: b\x00c", 400),
    header("a control character in the value", b"A: b\x07c", 400),
    header("CR alone in the value", b"A: b\rc", 400),
    header("LF alone in the value", b"A: b\nX-Request-Id: mine", 400),
    header("UTF-8 in the name", "Zürich: b".encode(), 400),
    header("UTF-8 in the value", "A: zürich".encode(), 200, stays=STAYS),
    header("one of 33 KiB", b"A: " + b"b" * 33 * 1024, 431),
    Row("header: a value that does not end", LINE + b"A: " + b"b" * 300_000, [431]),
    Row("header: a name that does not end", LINE + b"b" * 300_000, [431]),
    header("99 of them", b"\r\n".join(b"A%d: b" % number for number in range(99)), 200, stays=STAYS),
    header("101 of them", b"\r\n".join(b"A%d: b" % number for number in range(101)), 431),
    header("40 of 1 KiB", b"\r\n".join(b"A%d: " % number + b"b" * 1024 for number in range(40)), 431),
    header("no end of them, then the caller's end", b"A: b\r\nB", *NOTHING)._replace(sent=LINE + HOST + b"A", cut=True),
    header("an id of 101 characters", b"X-Request-Id: " + b"a" * 101, 431, stays=STAYS, says="x-request-id"),
    header("a client's id of 101", b"X-Ms-Client-Request-Id: " + b"a" * 101, 431, stays=STAYS, says="x-ms-client"),
    header("an id with a control character", b"X-Request-Id: a\x1b[31m", 400),
    header("an empty id", b"X-Request-Id:", 200, stays=STAYS),
    header("an unknown expectation", b"Expect: a miracle", 200, stays=STAYS),
]

FRAMING = [
    framing("a length and chunks", b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"0\r\n\r\n" + SECOND, 400),
    framing("chunks and a length", b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"0\r\n\r\n" + SECOND, 400),
    framing("two lengths", b"Content-Length: 18\r\nContent-Length: 19", GOOD, 400),
    framing("one length twice", b"Content-Length: 18\r\nContent-Length: 18", GOOD, 400),
    framing("a list of lengths", b"Content-Length: 18, 18", GOOD, 400),
    framing("two lengths in one", b"Content-Length: 1 8", GOOD, 400),
    framing("a negative length", b"Content-Length: -1", GOOD, 400),
    framing("a length with a plus", b"Content-Length: +18", GOOD, 400),
    framing("a length with an underscore", b"Content-Length: 1_8", GOOD, 400),
    framing("a length in hex", b"Content-Length: 0x12", GOOD, 400),
    framing("a length with a point", b"Content-Length: 18.0", GOOD, 400),
    framing("a length that is a word", b"Content-Length: many", GOOD, 400),
    framing("an empty length", b"Content-Length:", GOOD, 400),
    framing("a length beyond 64 bits", b"Content-Length: 18446744073709551616", GOOD, 400),
    framing("a length of many digits", b"Content-Length: " + b"9" * 5000, GOOD, 400),
    framing("a huge length", b"Content-Length: 9223372036854775807", GOOD, 413),
    framing("a length over the limit", b"Content-Length: 1000001", b"", 413),
    framing("a length over the limit, sent at once", b"Content-Length: 1000001", b"a" * 1_000_001, 413),
    framing("a coding other than chunks", b"Transfer-Encoding: gzip", GOOD, 501),
    framing("the coding identity", b"Transfer-Encoding: identity", GOOD, 501),
    framing("an empty coding", b"Transfer-Encoding:", GOOD, 400),
    framing("a coding much like chunks", b"Transfer-Encoding: xchunked", b"0\r\n\r\n", 501),
    framing("a coding with a control character", b"Transfer-Encoding: \x0bchunked", b"0\r\n\r\n", 400),
    framing("chunks, not last", b"Transfer-Encoding: chunked, gzip", b"0\r\n\r\n", 400),
    framing("chunks within chunks", b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n", 400),
    framing("chunks twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", 400),
    framing("chunks and another coding", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", b"0\r\n\r\n", 400),
    framing("gzip within chunks", b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n", 501),
    Row(
        "framing: chunks in HTTP/1.0",
        CHUNKED.replace(b"1.1", b"1.0") + b"12\r\n" + GOOD + b"\r\n0\r\n\r\n",
        [200],
    ),
    framing("more than its length, another request", b"Content-Length: 18", GOOD + SECOND, 200, 200, stays=STAYS),
    framing("more than its length, garbage", b"Content-Length: 18", GOOD + b"}}}", 200, 400),
    framing("no length, so no body, and then one", b"A: b", GOOD, 400, 400),
    framing("less than its length, then the caller's end", b"Content-Length: 18", GOOD[:9], cut=True),
    Row("framing: a body for GET", request("GET", "/livez", body=b"hello"), [200], STAYS),
    Row("framing: a request in the body of GET", request("GET", "/livez", body=SECOND), [200], STAYS),
]

CHUNKS = [
    chunks("good ones", b"12\r\n" + GOOD + b"\r\n0\r\n\r\n", 200, stays=STAYS),
    chunks("with an extension and a trailer", b"12;a=b\r\n" + GOOD + b"\r\n0\r\nA: b\r\n\r\n", 200, stays=STAYS),
    chunks("then another request", b"12\r\n" + GOOD + b"\r\n0\r\n\r\n" + SECOND, 200, 200, stays=STAYS),
    chunks("a size that is none", b"xyz\r\n" + GOOD, 400),
    chunks("no size", b"\r\n" + GOOD, 400),
    chunks("a negative size", b"-12\r\n" + GOOD, 400),
    chunks("a size with 0x", b"0x12\r\n" + GOOD + b"\r\n0\r\n\r\n", 400),
    chunks("a space before the size", b" 12\r\n" + GOOD + b"\r\n0\r\n\r\n", 400),
    chunks("a space after the size", b"12 \r\n" + GOOD + b"\r\n0\r\n\r\n", 400),
    chunks("a size beyond 64 bits", b"10000000000000012\r\n" + GOOD, 400),
    chunks("a size of many digits", b"f" * 5000 + b"\r\n" + GOOD, 400),
    chunks("LF alone after the size", b"12\n" + GOOD + b"\r\n0\r\n\r\n", 400),
    chunks("CR alone after the size", b"12\r" + GOOD + b"\r\n0\r\n\r\n", 400),
    chunks("no line end after one", b"12\r\n" + GOOD + b"0\r\n\r\n", 400),
    chunks("longer than its size", b"12\r\n" + GOOD + b"abc\r\n0\r\n\r\n", 400),
    chunks("LF alone after one", b"12\r\n" + GOOD + b"\n0\r\n\r\n", 400),
    chunks("an extension with a control character", b"12;a=\x01\r\n" + GOOD, 400),
    chunks("an extension that does not end", b"12;" + b"a" * 200_000, 400),
    chunks("extensions without end", b"1;" + b"a" * 1000 + b"\r\n[\r\n" + b"1;" + b"a" * 200_000, 400),
    chunks("of one byte, without end", b"1\r\n[\r\n" * 40_000, 400),
    chunks("trailers without end", b"12\r\n" + GOOD + b"\r\n0\r\n" + b"A: b\r\n" * 20_000, 400),
    chunks("a trailer that does not end", b"12\r\n" + GOOD + b"\r\n0\r\nA: " + b"b" * 200_000, 400),
    chunks("a trailer without a colon", b"12\r\n" + GOOD + b"\r\n0\r\nabc\r\n\r\n", 400),
    chunks("a length as a trailer", b"12\r\n" + GOOD + b"\r\n0\r\nContent-Length: 5\r\n\r\n", 400),
    chunks("over the limit", (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 16, 413),
    chunks("no last one, then the caller's end", b"12\r\n" + GOOD + b"\r\n", cut=True),
]

EXPECT = "Expect: 100-continue"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
UPGRADE = "".join(f"{one}\r\n" for one in H2C).encode()
UPGRADES = [
    Row("expect: a body that is welcome", scoring(GOOD, EXPECT), [200], STAYS, interim=1),
    Row("expect: a body that is too large", POST + b"Content-Length: 1000001\r\nExpect: 100-continue\r\n\r\n", [413]),
    Row("expect: no such path", request("POST", "/nowhere", EXPECT, body=GOOD), [404]),
    Row("expect: no such method", request("PUT", "/score", EXPECT, body=GOOD), [405]),
    Row("expect: in capitals", scoring(GOOD, "EXPECT: 100-CONTINUE"), [200], STAYS, interim=1),
    Row("expect: twice", scoring(GOOD, EXPECT, EXPECT), [200], STAYS),
    Row("expect: in HTTP/1.0", scoring(GOOD, EXPECT).replace(b"1.1", b"1.0"), [200]),
    Row("upgrade: h2c", request("GET", "/livez", *H2C), [200]),
    Row("upgrade: h2c with a body", scoring(GOOD, *H2C), [200]),
    Row(
        "upgrade: h2c with chunks",
        CHUNKED[:-2] + UPGRADE + b"\r\n12\r\n" + GOOD + b"\r\n0\r\n\r\n" + SECOND,
        [200],
    ),
    Row("upgrade: h2c with a body, behind another", scoring(GOOD) + scoring(GOOD, *H2C) + SECOND, [200, 200]),
    Row("upgrade: h2c with a body that is too large", POST + UPGRADE + b"Content-Length: 1000001\r\n\r\n", [413]),
    Row("upgrade: h2c with chunks that are none", CHUNKED[:-2] + UPGRADE + b"\r\nxyz\r\n", [400]),
    Row("upgrade: h2c, no such path", request("POST", "/nowhere", *H2C, body=GOOD), [404]),
    Row("upgrade: h2c, cut", scoring(GOOD, *H2C)[:-3], NOTHING, cut=True),
    Row("upgrade: websocket", request("GET", "/score", "Connection: Upgrade", "Upgrade: websocket"), [400]),
    Row("upgrade: not asked for by Connection", request("GET", "/livez", "Upgrade: h2c"), [200], STAYS),
    Row("pipeline: good ones", scoring(GOOD) + SECOND + scoring(GOOD), [200, 200, 200], STAYS),
    Row("pipeline: 50 good ones", scoring(GOOD) * 50, [200] * 50, STAYS),
    Row("pipeline: good, then bad", scoring(GOOD) + b"BAD\r\n\r\n" + SECOND, [200, 400]),
    Row("pipeline: bad, then good", b"BAD\r\n\r\n" + scoring(GOOD), [400]),
    Row("pipeline: a last one, then another", request("GET", "/livez", "Connection: close") + SECOND, [200]),
    Row("pipeline: refused, then good", request("PUT", "/score") + SECOND, [405, 200], STAYS),
    Row(
        "pipeline: HTTP/1.0 that is to be kept", LINE.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\n", [200]
    ),
    Row("pipeline: HTTP/1.0, then good", b"GET /livez HTTP/1.0\r\n\r\n" + SECOND, [200]),
    Row("pipeline: good, then the caller's end", scoring(GOOD) + SECOND, [200, 200], cut=True),
]

BODIES = [
    body("empty", b"", 400, says="empty"),
    body("a form", b"data=1", 415, "Content-Type: application/x-www-form-urlencoded", says="application/json"),
    body("text", GOOD, 415, "Content-Type: text/plain"),
    body("another JSON", GOOD, 200, "Content-Type: application/vnd.api+json; charset=utf-8"),
    body("a content type that is none", GOOD, 415, "Content-Type: ;;;"),
    body("two content types", GOOD, 415, "Content-Type: application/json", "Content-Type: text/plain"),
    body("cut JSON", GOOD[:-3], 400, says="JSON"),
    body("JSON and more", GOOD + b"}", 400, says="JSON"),
    body("a trailing comma", '{"data": [[1, 2],]}', 400, says="JSON"),
    body("single quotes", "{'data': [[1, 2]]}", 400, says="JSON"),
    body("a comment", '{"data": [[1, 2]]} // good', 400, says="JSON"),
    body("a control character in text", b'{"data": [[1, 2]], "name": "a\x01"}', 400, says="JSON"),
    body("an array", "[[1, 2]]", 400, says="$: expected an object"),
    body("null", "null", 400, says="$: expected an object"),
    body("a number", "1", 400, says="$: expected an object"),
    body("a parameter missing", '{"name": "ann"}', 400, says="$.data"),
    body("a parameter too many", '{"data": [[1, 2]], "more": 1}', 200),
    body("a parameter twice", '{"data": [[1, 2]], "data": [[3, 4]]}', 200),
    body("the wrong shape", '{"data": [[1, 2, 3]]}', 400, says="$.data[0]"),
    body("text for a number", '{"data": [[1, "two"]]}', 400, says="$.data[0][1]"),
    body("an object for an array", '{"data": {"a": 1}}', 400, says="$.data"),
    body("rows of different lengths", '{"data": [[1, 2], [1]]}', 400, says="$.data[1]"),
    body("NaN", '{"data": [[NaN, 2]]}', 200),
    body("an infinity", '{"data": [[1e999, 2]]}', 400, says="JSON"),
    body("a number for text", '{"data": [[1, 2]], "name": 5}', 400, says="$.name"),
    body("a fraction for a whole number", '{"data": [[1, 2]], "scale": 1.5}', 400, says="$.scale"),
    body("a whole number beyond 64 bits", '{"data": [[1, 2]], "scale": 1' + "0" * 30 + "}", 400, says="$.scale"),
    body("a whole number of 5,000 digits", '{"data": [[1, 2]], "scale": 1' + "0" * 5000 + "}", 400),
    body("5,000 digits beside NaN", '{"data": [[NaN, 2]], "scale": 1' + "0" * 5000 + "}", 400),
    body("arrays 100,000 deep", '{"data": ' + "[" * 100_000 + "]" * 100_000 + "}", 400, says="JSON"),
    body("arrays 100,000 deep, not closed", "[" * 100_000, 400, says="JSON"),
    body("objects 100,000 deep", '{"data":' * 100_000 + "1" + "}" * 100_000, 400, says="JSON"),
    body(
        "arrays 100,000 deep beside NaN", '{"a": NaN, "data": ' + "[" * 100_000 + "]" * 100_000 + "}", 400, says="JSON"
    ),
    body("arrays 900 deep", '{"data": ' + "[" * 900 + "]" * 900 + "}", 400, says="$.data"),
    body("a lone surrogate", '{"data": [[1, 2]], "name": "\\ud800"}', 400, says="JSON"),
    body("an escaped NUL", '{"data": [[1, 2]], "name": "a\\u0000b"}', 200),
    body("a byte order mark", b"\xef\xbb\xbf" + GOOD, 400, says="JSON"),
    body("UTF-16", GOOD.decode().encode("utf-16"), 400),
    body("Latin-1", '{"data": [[1, 2]], "name": "zürich"}'.encode("latin-1"), 400),
    body("UTF-8 that is too long for its letter", b'{"data": [[1, 2]], "name": "\xc0\xaf"}', 400),
    body("gzip", bytes.fromhex("1f8b080000000000000a"), 400, "Content-Encoding: gzip"),
    body("bytes of all kinds", bytes(range(256)) * 100, 400),
]

PATHS = [
    Row("path: not there", request("GET", "/nowhere"), [404], STAYS),
    Row("path: in capitals", request("POST", "/SCORE", body=GOOD), [404], STAYS),
    Row("path: a slash more", request("POST", "/score/", body=GOOD), [404], STAYS),
    Row("path: not there, with a large body", request("POST", "/nowhere", body=b"a" * 100_000), [404]),
    Row("path: the answer's own words", request("GET", "/%22%7D%0D%0A%3Cscript%3E"), [404], STAYS),
    Row("path: a version of the schema that is none", request("GET", "/swagger.json?version=9"), [404], STAYS),
    Row("path: a query that is none", request("GET", "/swagger.json?version=%ff&&=&"), [404], STAYS),
    *(
        Row(f"method: {method}", request(method, "/score"), [405], STAYS)
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "PURGE")
    ),
    Row("method: POST for a probe", request("POST", "/livez", body=GOOD), [405], STAYS),
    Row("method: PUT of a large body", request("PUT", "/score", body=b"a" * 100_000), [405]),
]

TABLE = [*LINES, *HEADERS, *FRAMING, *CHUNKS, *UPGRADES, *BODIES, *PATHS]


@pytest.fixture(scope="module")
def server(serve):
    return serve(DECLARED, KEELWAY_MAX_BODY_BYTES=str(MAX_BODY_BYTES)).wait_ready()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_it_gets_its_status_and_the_next_good_request_succeeds(server, row):
    with Raw(server.port) as connection:
        connection.send(row.sent)
        if row.cut:
            connection.end_sending()
        answers = [connection.answer() for _ in row.statuses]

        assert [answer.status for answer in answers] == row.statuses
        assert sum(answer.interim for answer in answers) == row.interim
        for answer in answers:
            _check_form(answer)
        if row.says:
            assert row.says in answers[-1].json()["message"]
        _check_connection(connection, row)

    with Raw(server.port) as another:
        assert another.send(scoring(GOOD)).answer().json() == {"sum": 3.0, "name": "none", "scale": 1}


def test_the_memory_stays_flat_over_many_rounds_of_the_table(server):
    processes = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children()]
    _send_table(server.port)
    before = [process.memory_info().rss for process in processes]

    for _ in range(ROUNDS):
        _send_table(server.port)

    grown = [process.memory_info().rss - size for process, size in zip(processes, before, strict=True)]
    assert len(processes) == 2
    assert max(grown) < 16 * MEBIBYTE


def _send_table(port: int) -> None:
    for row in TABLE:
        with Raw(port) as connection:
            connection.send(row.sent)
            for _ in row.statuses:
                connection.answer()


def _check_form(answer: Answer) -> None:
    assert {"x-request-id", "x-ms-run-function-failed", "date", "content-length"} <= set(answer.headers)
    if answer.status >= 400:
        told = answer.json()
        assert set(told) == {"status_code", "message"}
        assert told["status_code"] == answer.status
        assert told["message"]
        assert answer.headers["content-type"] == "application/json"


def _check_connection(connection: Raw, row: Row) -> None:
    if row.stays:
        assert connection.send(request("GET", "/readyz")).answer().body == b"Healthy"
    else:
        assert connection.is_closed()
