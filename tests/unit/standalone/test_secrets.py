import re

from keelway_standalone.secrets import MAKERS, Secrets, token


def test_a_token_is_an_id_and_a_secret_of_256_bits():
    assert re.fullmatch(r"kw_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", token())
    assert token() != token()


def test_secrets_are_readable_by_their_owner_only(tmp_path):
    Secrets(tmp_path).make()

    assert {path.name for path in tmp_path.iterdir()} == set(MAKERS)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_secrets_are_made_once(tmp_path):
    secrets = Secrets(tmp_path)
    secrets.make()
    before = {name: secrets.read(name) for name in MAKERS}

    secrets.make()

    assert {name: secrets.read(name) for name in MAKERS} == before
    assert len(set(before.values())) == len(before)


def test_a_mode_that_others_can_read_is_narrowed(tmp_path):
    secrets = Secrets(tmp_path)
    secrets.make()
    secrets.path("redis").chmod(0o644)

    secrets.make()

    assert secrets.path("redis").stat().st_mode & 0o777 == 0o600


def test_a_missing_secret_is_made_anew_and_the_others_stay(tmp_path):
    secrets = Secrets(tmp_path)
    secrets.make()
    kept = secrets.read("postgres_app")
    secrets.path("admin_token").unlink()

    secrets.make()

    assert secrets.read("admin_token").startswith("kw_")
    assert secrets.read("postgres_app") == kept
