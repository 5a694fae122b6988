import socket

import pytest

from keelway_standalone.addresses import FIRST_PORT, LAST_PORT, choose, load, remove_sockets
from keelway_standalone.errors import Refused


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "addresses.json"
    yield path
    remove_sockets(load(path))


def listening(port=0):
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_any_port_is_one_below_those_of_outgoing_connections_and_no_two_are_the_same(path):
    chosen = choose(path, host="127.0.0.1", port=0, gateway_port=0)

    ports = [chosen.port, chosen.gateway_port, *chosen.s3.values()]
    assert len(set(ports)) == 10
    assert all(FIRST_PORT <= port <= LAST_PORT for port in ports)


def test_the_ports_of_the_last_time_are_used_again(path):
    first = choose(path, host="127.0.0.1", port=0, gateway_port=0)

    second = choose(path, host="127.0.0.1", port=0, gateway_port=0)

    assert (second.port, second.gateway_port, second.s3) == (first.port, first.gateway_port, first.s3)


def test_a_kept_port_that_is_taken_by_now_is_left_to_its_owner(path):
    first = choose(path, host="127.0.0.1", port=0, gateway_port=0)

    with listening(first.port):
        second = choose(path, host="127.0.0.1", port=0, gateway_port=0)

    assert second.port != first.port


def test_a_wanted_port_that_is_taken_is_refused_by_name(path):
    with listening() as listener:
        port = listener.getsockname()[1]

        with pytest.raises(Refused, match=rf"port {port} .*the API.*in use"):
            choose(path, host="127.0.0.1", port=port, gateway_port=0)


def test_one_port_for_two_is_refused(path):
    with listening() as listener:
        port = listener.getsockname()[1]

    with pytest.raises(Refused, match="given twice"):
        choose(path, host="127.0.0.1", port=port, gateway_port=port)


def test_sockets_get_a_short_private_folder_and_the_one_before_is_removed(path):
    first = choose(path, host="127.0.0.1", port=0, gateway_port=0)
    second = choose(path, host="127.0.0.1", port=0, gateway_port=0)

    assert not first.socket_dir.exists()
    assert second.socket_dir.stat().st_mode & 0o777 == 0o700
    assert len(str(second.socket_dir / ".s.PGSQL.5432")) < 107


def test_a_file_that_names_a_foreign_folder_removes_nothing(path, tmp_path):
    (tmp_path / "precious").mkdir()
    path.write_text(f'{{"sockets": "{tmp_path / "precious"}"}}')

    choose(path, host="127.0.0.1", port=0, gateway_port=0)

    assert (tmp_path / "precious").exists()


def test_a_damaged_file_counts_as_none(path):
    path.write_text("{")

    assert choose(path, host="127.0.0.1", port=0, gateway_port=0).port


def test_addresses_are_urls_that_this_host_can_reach(path):
    chosen = choose(path, host="0.0.0.0", port=0, gateway_port=0)

    assert chosen.url == f"http://127.0.0.1:{chosen.port}"
    assert chosen.gateway_url == f"http://{socket.gethostname()}:{chosen.gateway_port}"
