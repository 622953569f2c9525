import os
import signal
import subprocess
import sys

import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.parallel import in_parallel

SLEEPERS = """
import os, sys, time
from multiprocessing.context import SpawnProcess
from nnunetv2_gsp.parallel import in_parallel

def sleep(_=None):
    os.write(1, b"asleep\\n")  # two processes share this pipe, and unbuffered a print writes its line's end apart
    time.sleep(60)

def start_and_sleep(process, start=SpawnProcess.start):
    start(process)
    time.sleep(60)

if __name__ == "__main__":
    initializer = None
    if sys.argv[1] == "amid a start":
        SpawnProcess.start, initializer = start_and_sleep, sleep
    list(in_parallel(sleep, range(4), 2, "Sleep", initializer))
"""


def double(number):
    return 2 * number


def set_mark():
    os.environ["NNUNETV2_GSP_TEST_MARK"] = "set"


def mark(_):
    return os.environ.get("NNUNETV2_GSP_TEST_MARK")


def die(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_items(processes):
    assert list(in_parallel(double, range(9), processes, "Double")) == list(range(0, 18, 2))
    assert list(in_parallel(double, [], processes, "Double")) == []


def test_the_initializer_runs_in_each_process_but_this_one():
    assert list(in_parallel(mark, range(3), 2, "Mark", set_mark)) == ["set"] * 3
    assert list(in_parallel(mark, range(3), 1, "Mark", set_mark)) == [None] * 3


def test_a_killed_process_is_one_sentence():
    with pytest.raises(InputError, match="one that was killed"):
        list(in_parallel(die, range(4), 2, "Die"))


@pytest.mark.parametrize(("when", "n_asleep"), [("at work", 2), ("amid a start", 1)])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_no_process(sent, when, n_asleep, tmp_path):
    """Once the command and all that it started are gone, nobody holds the other end of the pipe."""
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    with subprocess.Popen(
        [sys.executable, script, when], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as command:
        for _ in range(n_asleep):
            assert command.stdout.readline() == b"asleep\n"
        os.kill(command.pid, sent) if sent == signal.SIGKILL else os.killpg(command.pid, sent)
        try:
            command.communicate(timeout=20)
        finally:
            if command.poll() is None:
                os.killpg(command.pid, signal.SIGKILL)
