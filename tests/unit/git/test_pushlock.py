"""One build at a time."""

import os
import threading
import time
from pathlib import Path

from gantry.git import pushlock


def test_the_next_one_waits_and_hears_for_whom(tmp_path: Path) -> None:
    first, second = pushlock.open_lock(tmp_path), pushlock.open_lock(tmp_path)
    heard: list[tuple[str, float]] = []
    pushlock.acquire(first, "ada's push of 1234567", lambda *_: None)
    thread = threading.Thread(
        target=pushlock.acquire, args=(second, "bob's", lambda *words: heard.append(words))
    )
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive()
    assert [holder for holder, _ in heard] == ["ada's push of 1234567"]
    pushlock.release(first)
    thread.join(2)
    assert not thread.is_alive()
    assert os.pread(second, 100, 0) == b"bob's"
    pushlock.release(second)


def test_what_a_child_inherited_does_not_hold_it(tmp_path: Path) -> None:
    first = pushlock.open_lock(tmp_path)
    inherited = os.dup(first)
    pushlock.acquire(first, "a", lambda *_: None)
    pushlock.release(first)
    second = pushlock.open_lock(tmp_path)
    pushlock.acquire(second, "b", lambda *_: None)
    pushlock.release(second)
    os.close(inherited)
