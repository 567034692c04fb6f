"""Loaded by the Dask workers of test_executor.py (``--preload``): slides by whose names a worker is slow or dies."""

import os
import signal
import time
from pathlib import Path

import wbctool
from wbctool.cluster import worker_plugin
from wbctool.cluster.worker_plugin import RunPlugin

MODELS = "WBCTOOL_TEST_MODELS"
VERSION = "WBCTOOL_TEST_VERSION"


def dask_setup(worker):
    process, cached_models = RunPlugin.process, worker_plugin.cached_models
    if process.__name__ == "faulty":  # Dask loads this more than once
        return

    def faulty(plugin, slide, metadata, n_threads):
        if "slow" in slide.id:
            time.sleep(0.4)
        if "odd" in slide.id:
            raise RecursionError(lambda: "an error that cannot be sent")
        once = Path(slide.folder, ".died")  # hidden: no field
        if "deadly" in slide.id or ("fatal" in slide.id and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return process(plugin, slide, metadata, n_threads)

    RunPlugin.process = faulty
    if MODELS in os.environ:
        worker_plugin.cached_models = lambda _, *how: cached_models(Path(os.environ[MODELS]), *how)
    wbctool.__version__ = os.environ.get(VERSION, wbctool.__version__)
