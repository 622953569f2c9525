"""Commands of Slurm that run a script of one's own, and what they were asked."""

import os
import re
from pathlib import Path


def put_command(name, script, folder, monkeypatch):
    """Put a command on PATH, which runs a script; returns the file of the words that it was last called with."""
    asked = folder / f"{name}_asked"
    (folder / name).write_text(f"#!/bin/sh\necho $* > {asked}\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return asked


def put_sbatch(folder, monkeypatch, script="echo Submitted batch job 7"):
    """Put sbatch on PATH, and srun, by which submitit knows Slurm; returns the file as above."""
    put_command("srun", "", folder, monkeypatch)
    return put_command("sbatch", script, folder, monkeypatch)


def options_and_srun(asked):
    """Return the options of the array in the script that sbatch was given, and the words of its srun."""
    script = Path(asked.read_text().strip()).read_text()
    [srun] = re.findall("^srun .*", script, re.MULTILINE)
    return set(re.findall("^#SBATCH (.*)", script, re.MULTILINE)), srun.split()
