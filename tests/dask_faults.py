"""Loaded by the Dask workers of test_cluster.py (``--preload``): slides by whose names a worker is slow or dies."""

import os
import signal
import time
from pathlib import Path

import wbctool

MODELS = "WBCTOOL_TEST_MODELS"
VERSION = "WBCTOOL_TEST_VERSION"


def dask_setup(worker):
    analysed, kept_models = worker._analysed, worker._kept_models
    if analysed.__name__ == "faulty":  # Dask loads this more than once
        return

    def faulty(run, slide, metadata):
        if "slow" in slide.id:
            time.sleep(0.5)
        if "odd" in slide.id:
            raise RecursionError(lambda: "an error that cannot be sent")
        once = Path(slide.folder, ".died")  # hidden: no field
        if "deadly" in slide.id or ("fatal" in slide.id and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return analysed(run, slide, metadata)

    worker._analysed = faulty
    if MODELS in os.environ:
        worker._kept_models = lambda _, *how: kept_models(Path(os.environ[MODELS]), *how)
    wbctool.__version__ = os.environ.get(VERSION, wbctool.__version__)
