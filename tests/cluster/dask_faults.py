"""Loaded by the workers of dask_lab.py (``--preload``): slides by whose names a worker is slow or dies."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import synthetic_scans

import wbctool
from wbctool.cluster import worker_plugin
from wbctool.cluster.worker_plugin import RunPlugin

MODELS = "WBCTOOL_TEST_MODELS"
VERSION = "WBCTOOL_TEST_VERSION"


def see_drawn_smears(bind_stages):
    """Let stages take a drawn smear for a real one in the zones of scans, and find its cells."""

    def bind(models, settings):
        stages = bind_stages(models, settings)

        def detect(field, *how):
            return (synthetic_scans.detect if field.name.startswith("zone-") else stages.detect)(field, *how)

        return replace(stages, detect=detect, check=lambda field: None)

    return bind


def die(slide):
    """Die if the slide says so: always, or once."""
    once = Path(slide.folder, ".died")  # hidden: no field
    if "deadly" in slide.id or ("fatal" in slide.id and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def dask_setup(worker):
    process, process_zones = RunPlugin.process_slide, RunPlugin.process_zones
    cached_models = worker_plugin.cached_models
    if process.__name__ == "faulty":  # Dask loads this more than once
        return
    surveyed = []

    def faulty(plugin, slide, *how):
        if "slow" in slide.id:
            time.sleep(0.4)
        if "odd" in slide.id:
            raise RecursionError(lambda: "an error that cannot be sent")
        if not slide.is_scan:
            die(slide)
        surveyed.append(slide.id)
        return process(plugin, slide, *how)

    def faulty_zones(plugin, zones, n_threads):
        slide = zones[0][0]
        with Path(slide.folder, f".zones-{os.getpid()}").open("a") as file:
            file.writelines(f"{slide.id}/{source.name}\n" for _, source in zones)
        time.sleep(0.4 if "slow" in slide.id else 0.1)
        if ("helper" not in slide.id or slide.id not in surveyed) and "zone-x" in zones[-1][1].name:
            die(slide)
        return process_zones(plugin, zones, n_threads)

    RunPlugin.process_slide, RunPlugin.process_zones = faulty, faulty_zones
    worker_plugin.bind_stages = see_drawn_smears(worker_plugin.bind_stages)
    if MODELS in os.environ:
        worker_plugin.cached_models = lambda _, *how: cached_models(Path(os.environ[MODELS]), *how)
    wbctool.__version__ = os.environ.get(VERSION, wbctool.__version__)
