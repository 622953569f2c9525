"""Nobody outlives who started it, whatever ends that one; asked of the operating system."""

import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager, suppress
from multiprocessing import Event, Lock, Process, active_children
from pathlib import Path
from threading import Thread

import pytest

from nnunetv2_gsp.orphans import no_orphans

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="asks Linux' /proc")
WITH_CHILDREN = """
    import time
    from multiprocessing import Process
    from nnunetv2_gsp.orphans import no_orphans

    def wait():
        for _ in range(600):  # a signal just before a sleep is not looked at until it ends
            time.sleep(0.1)

    with no_orphans():
        for _ in range(2):
            Process(target=wait).start()
        print("started", flush=True)
        wait()
"""
AMID_A_FORK = """
    import os, signal, time
    from multiprocessing import Process
    from nnunetv2_gsp.orphans import no_orphans

    def wait():
        for _ in range(600):
            time.sleep(0.1)

    def get_signal():
        if not signals_sent:
            signals_sent.append(True)
            print("started", flush=True)
            signal.raise_signal(signal.{signal})  # what it raises is lost in here

    signals_sent = []
    os.register_at_fork(after_in_parent=get_signal)
    with no_orphans():
        for _ in range(2):
            Process(target=wait).start()
        wait()
"""
WITH_A_COMMAND = """
    from nnunetv2_gsp.nnunet import run_command

    lines = ["import multiprocessing, time", "for _ in range(2):",
             "    multiprocessing.Process(target=time.sleep, args=(60,)).start()",
             "print('started', flush=True)", "time.sleep(60)"]
    run_command(["python", "-c", chr(10).join(lines)])
"""


def left_after(code, number, to_send=True):
    """Run code until it has started processes and send it a signal; returns its exit code and the processes left."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stdout:
            if line.strip() == "started":
                break
        started = descendants(process.pid)
        if to_send:
            process.send_signal(number)
        code = process.wait(60)
    return code, [pid for pid in {*started, *in_session(process.pid)} if is_alive_after(pid, 10)]


def descendants(pid):
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [grandchild for child in children for grandchild in descendants(child)]


def in_session(session):
    """Return the processes of a session; a child whose parent has ended is still in it."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if state(folder.name)[3:4] == [str(session)]]


def state(pid):
    """Return the fields of /proc/PID/stat from the state on, none where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def is_alive_after(pid, limit_s):
    """Tell whether a process is still there after so long; a zombie is not, its parent may not have been told yet."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if state(pid)[:1] in ([], ["Z"]):
            return False
        time.sleep(0.05)
    return True


@contextmanager
def alive_to_the_end():
    """Yield a process to start, which must then be alive at the end; and end it."""
    process = Process(target=time.sleep, args=(60,))
    try:
        yield process
        process.join(0.5)
        assert process.is_alive()
    finally:
        process.kill()
        process.join(10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("code", [WITH_CHILDREN, WITH_A_COMMAND])
def test_a_signal_to_the_parent_alone_ends_all_and_ends_the_parent_as_ever(code, number):
    assert left_after(code, number) == (-number, [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_amid_a_fork_is_not_lost_and_leaves_no_child(number):
    assert left_after(AMID_A_FORK.replace("{signal}", number.name), number, to_send=False) == (-number, [])


def sleep(ready):
    ready.set()
    time.sleep(60)


def miss_the_first(ready):
    """Miss a signal, as Python does that gets one just before a system call."""
    signal.signal(signal.SIGINT, lambda number, _: signal.signal(number, signal.default_int_handler))
    sleep(ready)


def sleep_whatever_comes(ready):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sleep(ready)


@pytest.mark.parametrize(
    ("target", "exit_code"), [(sleep, 1), (miss_the_first, 1), (sleep_whatever_comes, -signal.SIGKILL)]
)
def test_an_exception_ends_what_was_started_within_and_nothing_else(target, exit_code):
    ready = Event()
    within = Process(target=target, args=(ready,))

    def fail():
        with no_orphans():
            within.start()
            assert ready.wait(30)
            raise ZeroDivisionError

    with alive_to_the_end() as before:
        before.start()
        with pytest.raises(ZeroDivisionError):
            fail()
        within.join(10)
        assert within.exitcode == exit_code
        assert active_children() == [before]


def test_what_ends_well_keeps_its_processes():
    with alive_to_the_end() as within, no_orphans():
        within.start()


def test_a_handler_of_the_users_own_is_called_and_decides_alone():
    calls = []
    before = signal.signal(signal.SIGTERM, lambda number, _: calls.append(number))
    try:
        with alive_to_the_end() as within, no_orphans():
            within.start()
            signal.raise_signal(signal.SIGTERM)
        assert calls == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_stand_only_while_it_runs_and_one_set_meanwhile_stays():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with no_orphans():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    try:
        with no_orphans():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before[1])


def test_another_thread_may_train_too():
    seen = []

    def train():
        with no_orphans():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def hold(lock, held):
    with lock:
        held.set()
        time.sleep(60)


def test_a_lock_that_a_child_holds_is_given_back():
    """nnU-Net asks for its workers' event, which has one, when its loader is destroyed."""
    lock, held = Lock(), Event()
    with suppress(KeyboardInterrupt), no_orphans():
        Process(target=hold, args=(lock, held)).start()
        assert held.wait(30)
        raise KeyboardInterrupt
    assert lock.acquire(timeout=10)
