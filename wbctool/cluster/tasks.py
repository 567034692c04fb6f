"""What Dask runs on a worker: a slide, or some zones of a scan that any worker has."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from distributed import Reschedule, get_client, get_worker, secede

from wbctool.cluster.messages import FieldNotVisible, SlideCompleted, ZonesCompleted
from wbctool.cluster.worker_plugin import SLIDE_RESOURCE, RunPlugin
from wbctool.cluster.zones import ZONES_PER_THREAD, Zones, ZoneTasks
from wbctool.errors import WbctoolError
from wbctool.pipeline.field_worker import format_error
from wbctool.types.cells import Slide
from wbctool.types.slides import SlideMetadata

_VISIBILITY_TIMEOUT_S = 10.0  # a network file system may show a new file late
_POLL_S = 0.5


def process_slide(
    run: str, slide: Slide, metadata: SlideMetadata | None, allow_missing: bool
) -> SlideCompleted | FieldNotVisible:
    """Process a slide, as a Dask task.

    Args:
        run: The name of the plugin.
        slide: The slide.
        metadata: Its row of slides.csv; None if it has none.
        allow_missing: Whether it is processed even if a field is missing.

    Returns:
        The processed slide, or which field is missing.

    Raises:
        Reschedule: The worker is not ready; Dask submits the slide again.
        WbctoolError: Whatever else went wrong, with the machine's name.
    """
    with _named_errors():
        missing = _missing_field(slide, allow_missing)
        if missing is not None:
            return missing
        plugin, n_threads = _find_plugin(run), get_worker().state.nthreads
        return plugin.process_slide(slide, metadata, n_threads, _prepare_zone_tasks(plugin) if slide.is_scan else None)


def process_zones(run: str, address: str, zones: Zones) -> ZonesCompleted | FieldNotVisible:
    """Process some zones of a scan, as a Dask task.

    Args:
        run: The name of the plugin.
        address: The worker that has the scan open, and need not see it any more.
        zones: The zones.

    Returns:
        The processed zones, or which file is missing.

    Raises:
        Reschedule: The worker is not ready; Dask submits the zones again.
        WbctoolError: Whatever else went wrong, with the machine's name.
    """
    with _named_errors():
        missing = _missing_field(zones[0][0], get_worker().contact_address == address)
        return missing or _find_plugin(run).process_zones(zones, get_worker().state.nthreads)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Have Dask submit a task again, or say on which machine it failed."""
    try:
        yield
    except Reschedule:
        time.sleep(_POLL_S)
        raise
    except Exception as error:
        raise WbctoolError(f"{platform.node()}: {format_error(error)}") from None


def _find_plugin(run: str) -> RunPlugin:
    """Return the plugin of a run on this worker; raises Reschedule if it has none yet, or no more."""
    plugin = get_worker().plugins.get(run)
    if not isinstance(plugin, RunPlugin):
        raise Reschedule
    return plugin


def _prepare_zone_tasks(plugin: RunPlugin) -> ZoneTasks:
    """Leave this thread's place to the zones of its scan, and prepare their tasks."""
    worker = get_worker()
    n_zones = ZONES_PER_THREAD * plugin.count_threads(worker.state.nthreads)
    secede()
    resources = {SLIDE_RESOURCE: 1.0, plugin.zone_resource: 1.0}
    return ZoneTasks(plugin.name, worker, get_client(), process_zones, resources, n_zones)


def _missing_field(slide: Slide, allow_missing: bool) -> FieldNotVisible | None:
    """Return the first field that does not appear in time; None if all do, or if that does not matter."""
    deadline = time.monotonic() + _VISIBILITY_TIMEOUT_S
    for path in () if allow_missing else slide.fields:
        while not path.is_file():
            if time.monotonic() > deadline:
                return FieldNotVisible(str(get_worker().contact_address), path)
            with suppress(OSError):
                next(path.parent.iterdir(), None)  # makes a network file system look again
            time.sleep(_POLL_S)
    return None
