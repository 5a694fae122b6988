"""`keelway gc` and `keelway scrub`."""

import json

from tests.support.objects import remove, write


def test_garbage_is_counted_before_it_is_collected(keelway, user):
    user.register("tidy", b"kept")

    told = keelway("gc", "--dry-run")
    done = json.loads(keelway("gc", "--grace-s", "0", "--json").stdout)

    assert told.returncode == 0
    assert "would be deleted" in told.stdout
    assert (done["is_dry_run"], done["is_complete"], done["grace_s"]) == (False, True, 0)


def test_scrubbing_names_the_file_whose_bytes_are_damaged(keelway, stack, user):
    sha256 = user.register("rotten", b"about to rot").files[0].sha256
    key = remove(stack.s3, sha256)

    looked = keelway("scrub")
    write(stack.s3, key, b"about to rot")

    assert looked.returncode == 1
    assert f"DAMAGED  default/rotten:1 rotten.bin (sha256 {sha256}) is not in the store" in looked.stdout
    again = keelway("scrub", "--json")
    assert (again.returncode, json.loads(again.stdout)["damaged"]) == (0, [])
