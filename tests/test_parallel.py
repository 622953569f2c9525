import os
import signal
import subprocess
import sys
import time

import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.parallel import in_parallel

SLEEPERS = """
import os, time
from nnunetv2_gsp.parallel import in_parallel

def sleep(_):
    os.write(1, b"asleep\\n")  # two processes share this pipe, and unbuffered a print writes its line's end apart
    time.sleep(60)

if __name__ == "__main__":
    list(in_parallel(sleep, range(4), 2, "Sleep"))
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


@pytest.mark.parametrize("asleep", [True, False], ids=["at work", "while it starts"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_no_process(sent, asleep, tmp_path):
    """Once the command and all that it started are gone, nobody holds the other end of the pipe."""
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as command:
        if asleep:
            assert command.stdout.readline() == b"asleep\n"
        else:
            time.sleep(0.6)
        os.kill(command.pid, sent) if sent == signal.SIGKILL else os.killpg(command.pid, sent)
        try:
            command.communicate(timeout=20)
        finally:
            if command.poll() is None:
                os.killpg(command.pid, signal.SIGKILL)
