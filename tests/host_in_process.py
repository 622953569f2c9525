"""nnU-Net within the tests' process, without the time that its steps take whatever the size of the data.

nnU-Net spawns a pool of processes for each of its steps, each of which imports torch and nnU-Net for some five seconds;
forks twelve more to list a folder; and draws 100 million intensities for a fingerprint. nnU-Net's commands, which other
tests run, do as they always do.
"""

import multiprocessing
import os
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.pool import ThreadPool

import pytest

_PRELOADED = ("nnunetv2.training.nnUNetTrainer.nnUNetTrainer", "nnunetv2.experiment_planning.plan_and_preprocess_api")


class PreparedProcess(ForkServerProcess):
    """A process forked from a server that has imported torch and nnU-Net and done nothing else, so that it is as new.

    It has the environment of the process that starts it, as a spawned one has, not the server's.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._environment = dict(os.environ)

    def run(self):
        """Take over the environment and work."""
        os.environ.clear()
        os.environ.update(self._environment)
        super().run()


class PreparedContext(ForkServerContext):
    """Gives out prepared processes where a context for spawning was asked for."""

    Process = PreparedProcess


@pytest.fixture(scope="session", autouse=True)
def prepared_processes():
    """Whoever asks multiprocessing for a context that spawns gets prepared processes."""
    multiprocessing.set_forkserver_preload([*_PRELOADED])
    prepared, get_context = PreparedContext(), multiprocessing.get_context
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            multiprocessing, "get_context", lambda method=None: prepared if method == "spawn" else get_context(method)
        )
        patch.setattr("nnunetv2.utilities.utils.Pool", ThreadPool)
        yield


def extract_fingerprint(dataset_id):
    """Check a raw dataset and extract its fingerprint, as nnU-Net's command does it, from ten thousand intensities."""
    # here, as most tests do without them
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset

    class FewIntensities(DatasetFingerprintExtractor):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.num_foreground_voxels_for_intensitystats = 10_000

    extract_fingerprint_dataset(dataset_id, FewIntensities, num_processes=1, check_dataset_integrity=True)
