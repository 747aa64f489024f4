"""The lock: one holder at a time, whoever he is, and never longer than he lives."""

import os
import resource
import signal

import pytest

from slipstream.errors import StoreError
from slipstream.lock import Lock

REFUSED = r"^The box is in use by process {} on .+\. Wait until it ends, or take another\.$"


def hold(path):
    return Lock(path, "The box", "take another")


def test_a_second_holder_is_refused_by_name_and_told_what_to_do(tmp_path):
    with hold(tmp_path / "lock"), pytest.raises(StoreError, match=REFUSED.format(os.getpid())):
        hold(tmp_path / "lock")


def test_it_ends_with_the_block_with_release_and_with_an_error(tmp_path):
    with hold(tmp_path / "lock"):
        pass
    hold(tmp_path / "lock").release()
    with pytest.raises(ZeroDivisionError), hold(tmp_path / "lock"):
        1 / 0  # noqa: B018
    hold(tmp_path / "lock").release()


def test_a_refusal_leaves_the_holder_his_lock_and_his_name(tmp_path):
    with hold(tmp_path / "lock"):
        for _ in range(2):
            with pytest.raises(StoreError, match=REFUSED.format(os.getpid())):
                hold(tmp_path / "lock")


def test_it_falls_with_a_process_that_is_killed_and_the_file_left_behind_locks_nothing(tmp_path):
    hears, tells = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kept = hold(tmp_path / "lock")
            os.write(tells, b"!")
            signal.pause()
            kept.release()
        finally:
            os._exit(1)
    assert os.read(hears, 1) == b"!"
    try:
        with pytest.raises(StoreError, match=REFUSED.format(child)):
            hold(tmp_path / "lock")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert (tmp_path / "lock").stat().st_size > 0
    with hold(tmp_path / "lock"), pytest.raises(StoreError, match=REFUSED.format(os.getpid())):
        hold(tmp_path / "lock")


def test_a_holder_whose_name_is_not_there_or_garbled_is_another_process(tmp_path):
    for content in (b"", b'{"pi', b"[]", b"\xff"):
        with hold(tmp_path / "lock"):
            (tmp_path / "lock").write_bytes(content)
            with pytest.raises(StoreError, match="in use by another process"):
                hold(tmp_path / "lock")


def test_on_a_full_disk_it_locks_all_the_same(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with hold(tmp_path / "lock"), pytest.raises(StoreError, match="in use by another process"):
            hold(tmp_path / "lock")
        hold(tmp_path / "lock").release()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_where_nothing_can_be_written_it_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"^The box is not writable: Not a directory\. Take another\.$"):
        hold(tmp_path / "file" / "lock")
