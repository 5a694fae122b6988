from keelway_standalone.backoff import Backoff


def test_waits_grow_to_fifteen_seconds():
    backoff = Backoff()

    assert [backoff.after(0.1) for _ in range(9)] == [0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_a_minute_of_steady_running_starts_over():
    backoff = Backoff()
    for _ in range(5):
        backoff.after(1)

    assert backoff.after(60) == 0.2
    assert backoff.after(1) == 0.5
