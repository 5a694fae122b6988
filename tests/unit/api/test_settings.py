"""What the API lets itself be told."""

import pytest
from pydantic import ValidationError

from tests.support.routes import settings


@pytest.mark.parametrize(
    "url",
    [
        "store.example",
        "ftp://store.example",
        "https://store.example/bucket",
        "https://store.example?x=1",
        "https://store.example#x",
        "https://key:secret@store.example",
    ],
)
def test_where_clients_reach_the_store_is_a_scheme_a_host_and_a_port(url):
    with pytest.raises(ValidationError):
        settings(s3_public_url=url)


@pytest.mark.parametrize(("url", "port"), [("https://store.example", 443), ("http://[::1]:8333/", 8333)])
def test_a_public_address_has_a_port(url, port):
    assert settings(s3_public_url=url).s3_public_url.port == port


@pytest.mark.parametrize("url", [None, ""])
def test_without_one_there_is_none(url):
    assert settings(s3_public_url=url).s3_public_url is None
