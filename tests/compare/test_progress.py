"""What `qattn compare` says while it works."""

import time

from qattn.compare import progress


def test_nothing_is_silent_for_long_through_a_pipe(capfd, monkeypatch):
    monkeypatch.setattr(progress, "HEARTBEAT", 0.1)
    with progress.steps() as say:
        say("one")
        time.sleep(0.5)
        say("two")
        time.sleep(0.8)
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.rstrip(".") for line in err.splitlines()] == ["one", "two"]
    # A dot for every heartbeat without news: some of 6, on a busy machine.
    assert err.splitlines()[1].count(".") >= 2


def test_what_ends_at_once_says_nothing(capfd):
    with progress.steps() as say:
        say("one")
    assert capfd.readouterr() == ("", "")


def test_the_heartbeat_is_below_two_seconds():
    assert 0.2 + progress.HEARTBEAT < 2
