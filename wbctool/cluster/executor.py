"""A run on a Dask cluster, the coordinator's side: slides go out to the workers, their files are published here.

One process plans, holds the output's lock and writes; the workers return bytes. A worker that has lost its connection
may still be alive, and its slide be given to another: could it write, it would do so late, over what the other made or
after a later run took the lock. As it cannot, nothing that happens to a worker touches the contract of the output.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from functools import cache
from threading import Thread
from typing import TYPE_CHECKING, Any, NoReturn

from wbctool.cluster.messages import Job
from wbctool.cluster.scheduling import Flights
from wbctool.cluster.worker import stand_down
from wbctool.cluster.workers import NO_WORKER_S, VERSION_CALL, Roster, other_version
from wbctool.enums import Device
from wbctool.errors import ClusterUnusable
from wbctool.inference.loading import select_cards
from wbctool.inference.model_card import default_models_dir
from wbctool.inference.session import CPU, CUDA
from wbctool.optional import require_extra
from wbctool.pipeline.bound_stages import BoundStages, build_cache_key, build_provenance
from wbctool.pipeline.context import RunContext, ShouldStop
from wbctool.settings import RunSettings
from wbctool.store.slide_record import SlideOutcome
from wbctool.text import pluralize
from wbctool.types.cells import Slide

if TYPE_CHECKING:
    from distributed import Client


log = logging.getLogger(__name__)

_CONNECT_S = 5.0
_ANSWER_S = 300.0  # a worker may be busy with another's task, or load models from far away
_LEAVE_S = 2.0
_TICK_S = 0.2
_UNPARSED = "ucx://"  # of its addresses, which are right, Dask tells no host and port


class Cluster:
    """The workers of a Dask scheduler, as a :class:`~wbctool.pipeline.executor.Doer`. To be joined once, and closed."""

    def __init__(self, settings: RunSettings, address: str, stopped: ShouldStop) -> None:
        self._settings, self._address, self._stopped = settings, address, stopped
        self._client: Client | None = None
        self._roster: Roster | None = None
        self._flights: Flights | None = None

    def join(self) -> BoundStages:
        """Connect, and see who may do slides. What comes back has no stages to call: those are the workers'.

        Raises MissingDependency, ClusterUnusable, and, where the coordinator's own models are not right, what load_models
        does.
        """
        settings = self._settings
        folder = settings.models_dir or default_models_dir()
        cards = cache(lambda provider: select_cards(folder, provider, settings.precision))
        self._client = _connect(self._address)
        job = Job(uuid.uuid4().hex, _for_workers(settings))
        roster = self._roster = Roster(self._client, job, lambda provider: build_cache_key(cards(provider), settings))
        note = self._settle_provider(roster)
        provider = roster.provider or CPU
        return BoundStages(
            detect=_elsewhere,
            crop=_elsewhere,
            preprocess=_elsewhere,
            classify=_elsewhere,
            provenance=build_provenance(cards(provider), provider, settings),
            cache_key=build_cache_key(cards(provider), settings),
            device_message=note,
            batch_sizes=lambda: self._flights.rows if self._flights else {},
        )

    def process_slides(self, context: RunContext, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """As the protocol says."""
        assert self._client is not None
        assert self._roster is not None
        self._flights = Flights(self._client, self._roster, context)
        return self._flights.outcomes(slides)

    def describe(self) -> Mapping[str, Any]:
        """The workers and their deaths, who was refused and why, and which machine did which slide."""
        if self._roster is None:
            return {}
        return {
            "cluster": {
                "workers": len(self._roster.ever),
                "workers_lost": len(self._roster.lost),
                "workers_refused": dict(self._roster.refused),
                "hosts": self._flights.hosts if self._flights else {},
            }
        }

    def close(self) -> None:
        """Leave the cluster; nothing that hangs there holds up the end of the run."""
        if self._client is not None:
            leaving = Thread(target=self._leave, args=(self._client,), daemon=True)
            leaving.start()
            leaving.join(2 * _LEAVE_S)

    def _leave(self, client: Client) -> None:
        with suppress(Exception):
            if self._roster is not None and client.status == "running":
                members = list(self._roster.members)
                client.run(stand_down, self._roster.job.id, workers=members, wait=False, on_error="ignore")
        with suppress(Exception):
            client.close(timeout=_LEAVE_S)

    def _settle_provider(self, roster: Roster) -> str | None:
        """Hear the workers that are there, and say what the run's provider is. Returns what ``auto`` fell back to.

        GPUs and CPUs differ in the last digits, so a run has one provider: CUDA where any worker has it.
        """
        self._hear_first(roster)
        equipments = list(roster.candidates.values())
        on_cuda = any(equipment.provenance.provider == CUDA for equipment in equipments)
        roster.settle(*((CUDA, Device.CUDA) if on_cuda else (CPU, Device.CPU)))
        if not roster.members and not self._stopped():
            raise ClusterUnusable(_nobody(roster))
        notes = {equipment.host: equipment.device_note for equipment in equipments if equipment.device_note}
        if on_cuda or not notes:
            return None
        note = "; ".join(f"{host}: {text}" for host, text in sorted(notes.items()))
        log.warning("%s", note)
        return note

    def _hear_first(self, roster: Roster) -> None:
        """Until all workers that are there have answered, and one may be of use; ClusterUnusable where none comes."""
        began, told = time.monotonic(), False
        while not self._stopped():
            roster.look()
            if roster.candidates and not roster.waits_for:
                return
            waited_s = time.monotonic() - began
            if waited_s > (_ANSWER_S if roster.waits_for else NO_WORKER_S):
                if roster.candidates:
                    return
                raise ClusterUnusable(_nobody(roster))
            if roster.refused and not roster.waits_for:
                raise ClusterUnusable(_nobody(roster))
            if not told and not roster.waits_for and waited_s > 1:
                log.warning("the Dask scheduler has no workers yet; waiting for one")
                told = True
            time.sleep(_TICK_S)


def _connect(address: str) -> Client:
    with require_extra("cluster", "--scheduler"):
        import distributed
    for name in ("distributed", "distributed.client"):  # Dask set up a log of its own; what matters to a lab we say
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
        logging.getLogger(name).propagate = False
    _check_address(address)
    try:
        client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False, name="wbctool")
        theirs = client.run_on_scheduler(*VERSION_CALL)  # it reads every task, and cannot without
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ClusterUnusable(f"the Dask scheduler at {address} cannot be reached: {cause}") from error
    other = other_version(theirs)
    if other:
        client.close(timeout=_LEAVE_S)
        raise ClusterUnusable(f"the scheduler at {address} {other}")
    return client


def _check_address(address: str) -> None:
    """Raises ClusterUnusable for what is none.

    Asked of Dask before there is a client: one that was given such an address half exists, and says so ten seconds
    later, in a traceback of the interpreter's.
    """
    from distributed.comm.addressing import get_address_host_port

    if address.startswith(_UNPARSED):
        return
    try:
        get_address_host_port(address)
    except ValueError as error:
        raise ClusterUnusable(
            f"the Dask scheduler at {address} cannot be reached: {error}; give an address such as tcp://HEAD:8786"
        ) from error


def _nobody(roster: Roster) -> str:
    """Why there is nobody to do a slide."""
    if roster.refused:
        causes = "; ".join(f"{name}: {cause}" for name, cause in roster.refused.items())
        return f"no worker can process slides: {causes}"
    if roster.waits_for:
        return f"no answer from {pluralize(roster.waits_for, 'worker')} within {_ANSWER_S:.0f} seconds"
    return f"the Dask scheduler has had no workers for {NO_WORKER_S:.0f} seconds"


def _for_workers(settings: RunSettings) -> RunSettings:
    """With paths that mean the same wherever a worker was started."""
    models_dir = settings.models_dir and settings.models_dir.absolute()
    return settings.model_copy(update={"slides": settings.slides.absolute(), "models_dir": models_dir})


def _elsewhere(*_: object) -> NoReturn:
    raise RuntimeError("the stages are on the cluster's workers")
