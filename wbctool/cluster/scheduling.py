"""A run on a Dask cluster: slides on their way to workers and back, published in their order.

Dask carries tasks and results, and says who is there. Which worker gets which slide is decided here: a slide goes to a
free slot alone, so that a worker's death is held against the slides that were being done in it, and against no others.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from wbctool.cluster.messages import Failed, LogLine, SlideDone, Unknown, Unseen
from wbctool.cluster.worker import do_slide
from wbctool.cluster.workers import GATHER_S, NO_WORKER_S, Member, Roster
from wbctool.errors import ClusterUnusable, OutputNotWritable
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.field_worker import format_error
from wbctool.store.atomic_write import is_name_error
from wbctool.store.slide_record import SlideOutcome, make_failed_outcome
from wbctool.store.slide_writer import publish_files
from wbctool.timing import StageTimer, add_seconds
from wbctool.types.cells import Slide

if TYPE_CHECKING:
    from distributed import Client, Future


log = logging.getLogger(__name__)

TRIES = 3
"""So many workers may die of a slide; then it has failed."""
_TICK_S = 0.2
_WINDOW = 4  # slides that are out, or back and waiting for their turn, for each one that can be done at a time


@dataclass(slots=True)
class _Flight:
    """A slide on its way.

    outcome: of one that is published, or has failed for good. member, future: who has it; None while it waits for a
    worker. back: whether the worker has done with it. mishaps: why it is done again. hosts: where that happened.
    as_it_is: even if a field is missing.
    """

    slide: Slide
    outcome: SlideOutcome | None = None
    member: Member | None = None
    future: Future[Any] | None = None
    back: bool = False
    mishaps: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    as_it_is: bool = False

    @property
    def waits(self) -> bool:
        """Whether a worker is to be found for it."""
        return self.outcome is None and self.future is None

    @property
    def is_out(self) -> bool:
        """Whether it takes a worker's slot."""
        return self.future is not None and not self.back

    def call_back(self) -> None:
        """Take it from whoever has it."""
        if self.future is not None:
            self.future.cancel()
        self.member, self.future, self.back = None, None, False


class Flights:
    """The slides of a run between coordinator and workers.

    hosts: who did which slide. rows: those of each model's batches, the fewest of any worker.
    """

    def __init__(self, client: Client, roster: Roster, work: RunContext) -> None:
        self._client, self._roster, self._work = client, roster, work
        self._flights: deque[_Flight] = deque()
        self._came_back: SimpleQueue[object] = SimpleQueue()
        self._alone_since: float | None = None
        self._all_given = False
        self.hosts: dict[str, str] = {}
        self.rows: dict[str, int] = {}

    def outcomes(self, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """One a slide, in order, each published. At most _WINDOW a slot are on their way, whatever their number is."""
        supply = iter(slides)
        try:
            while not self._work.should_stop():
                self._give_out(supply)
                if not self._flights and self._all_given:
                    return
                outcome = self._land(self._flights[0]) if self._flights else None
                if outcome is None:
                    self._wait()
                else:
                    self._flights.popleft()
                    yield outcome
        finally:
            for flight in self._flights:
                flight.call_back()

    def _give_out(self, supply: Iterator[Slide]) -> None:
        """Fill the free slots: first with slides that came to grief elsewhere, then with new ones."""
        for flight in self._flights:
            flight.back = flight.back or (flight.future is not None and flight.future.done())
        for flight in [flight for flight in self._flights if flight.waits]:
            member = self._free_member(flight)
            if member is None:
                return
            self._give(flight, member)
        while len(self._flights) < _WINDOW * sum(member.slots for member in self._roster.members.values()):
            member = self._free_member(None)
            if member is None:
                return
            slide = next(supply, None)
            if slide is None:
                self._all_given = True
                return
            flight = _Flight(slide)
            self._flights.append(flight)
            if slide.problem:
                log.error("slide %r: %s", slide.id, slide.problem)
                self._fail(flight, "list", slide.problem)
            else:
                self._give(flight, member)

    def _free_member(self, flight: _Flight | None) -> Member | None:
        """Where to do a slide; None where there is no room. One that came to grief is alone in its worker from then on,
        and on another machine than before if there is one.
        """
        out = [other for other in self._flights if other.is_out and other.member is not None]
        loads = Counter(other.member.address for other in out if other.member)
        taken = {other.member.address for other in out if other.member and other.mishaps}
        suspect, hosts = (bool(flight.mishaps), flight.hosts) if flight else (False, set[str]())
        free = [
            member
            for address, member in self._roster.members.items()
            if address not in taken and loads[address] < (1 if suspect else member.slots)
        ]
        return min(free, key=lambda m: (m.host in hosts, loads[m.address] / m.slots), default=None)

    def _give(self, flight: _Flight, member: Member) -> None:
        slide = flight.slide
        there = replace(slide, folder=slide.folder.absolute(), fields=tuple(path.absolute() for path in slide.fields))
        flight.member = member
        flight.future = self._client.submit(
            do_slide,
            self._roster.job.id,
            member.equipment.process,
            there,
            self._work.metadata.get(slide.id),
            flight.as_it_is,
            workers=[member.address],
            allow_other_workers=False,
            resources=dict(member.resources) or None,
            pure=False,
        )
        flight.future.add_done_callback(self._came_back.put)

    def _wait(self) -> None:
        """Until something comes back, or a moment. What was with a worker that has gone is done again.

        Raises ClusterUnusable where the scheduler has gone, or no worker has been left for a while.
        """
        with suppress(Empty):
            self._came_back.get(timeout=_TICK_S)
        for address in self._roster.look():
            member = self._roster.forget(address)
            log.warning("worker %s on %s is lost", address, member.host)
            for flight in self._flights:
                if flight.member == member and flight.is_out:
                    self._again(flight, f"worker {address} on {member.host} died while processing it")
                elif flight.member == member:
                    flight.call_back()
        if self._roster.members or self._roster.waits_for:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > NO_WORKER_S:
            raise ClusterUnusable(f"no worker has been left for {NO_WORKER_S:.0f} seconds")

    def _again(self, flight: _Flight, mishap: str) -> None:
        """Something kept a worker from doing a slide; the slide may be that something."""
        log.warning("slide %r: %s", flight.slide.id, mishap)
        if flight.member is not None:
            flight.hosts.add(flight.member.host)
        flight.mishaps.append(mishap)
        flight.call_back()
        if len(flight.mishaps) >= TRIES:
            self._fail(flight, "cluster", f"given up after {TRIES} attempts: " + "; ".join(flight.mishaps))

    def _fail(self, flight: _Flight, stage: str, cause: str) -> None:
        flight.call_back()
        log.error("slide %r, %s: %s", flight.slide.id, stage, cause)
        flight.outcome = make_failed_outcome(flight.slide, stage, cause, self._work.stages.provenance.classes)

    def _land(self, flight: _Flight) -> SlideOutcome | None:
        """Publish a slide that is back; None where it is not, or must be done again."""
        if flight.outcome is None and flight.back and flight.future is not None and flight.member is not None:
            member, result = flight.member, self._result(flight, flight.future)
            if isinstance(result, SlideDone):
                flight.outcome = self._publish(flight.slide, result)
                self.hosts[flight.slide.id] = member.host
                for model, rows in result.rows.items():
                    self.rows[model] = min(rows, self.rows.get(model, rows))
                flight.call_back()
            elif isinstance(result, Unseen) and result.path.is_file():
                self._roster.refuse(member.address, member.host, f"it cannot see {result.path}")
                self._again(flight, f"worker {member.address} on {member.host} cannot see {result.path}")
            elif isinstance(result, Unseen):  # gone from here too: as on one machine, the field's failure
                flight.call_back()
                flight.as_it_is = True
            elif isinstance(result, Failed):
                self._fail(flight, "cluster", f"{member.host}: {result.cause}")
            elif isinstance(result, Unknown):
                self._ask_again(flight, member, result.process)
        if flight.outcome is not None:
            for _ in flight.slide.fields:
                self._work.field_done()
        return flight.outcome

    def _ask_again(self, flight: _Flight, member: Member, process: str) -> None:
        """A worker does not know the run. process: the one that says so; another than the member's has replaced it."""
        where = f"worker {member.address} on {member.host}"
        if process == member.equipment.process:
            log.warning("%s has forgotten the run and is being told about it again", where)
            self._roster.ask_again(member)
            flight.call_back()
        else:
            self._roster.forget_if_there(member)
            self._again(flight, f"{where} was restarted")

    def _result(self, flight: _Flight, future: Future[Any]) -> object:
        """What a worker made of a slide; None where there is nothing, and then the slide has been dealt with."""
        from distributed import KilledWorker

        try:
            if future.status == "finished":
                return future.result(timeout=GATHER_S)
            error = future.exception() if future.status == "error" else None
        except Exception as lost:  # the network's, and whatever a result raises that cannot be read
            error = lost
        if isinstance(error, KilledWorker):
            self._again(flight, f"a worker died while processing it: {format_error(error)}")
        elif isinstance(error, Exception) and future.status == "error":
            self._fail(flight, "cluster", format_error(error))
        else:
            self._again(flight, f"its results were lost in transit: {error!r}")
        return None

    def _publish(self, slide: Slide, done: SlideDone) -> SlideOutcome:
        for line in done.log:
            _tell(line)
        work, clock, outcome = self._work, StageTimer(), done.outcome
        if done.made is None:
            return outcome
        hash_cache = work.make_hash_cache()
        hash_cache.load_slide(slide.id)
        try:
            with clock("write"):
                publish_files(work.layout, done.made)
        except OutputNotWritable as error:
            if not is_name_error(error):
                raise
            log.error("slide %r: %s", slide.id, error)  # noqa: TRY400
            return make_failed_outcome(slide, "write", format_error(error), work.stages.provenance.classes)
        except Exception as error:  # as on one machine: what is wrong with one slide must not cost the others theirs
            log.exception("slide %r failed", slide.id)
            return make_failed_outcome(slide, "report", format_error(error), work.stages.provenance.classes)
        for name, stamp, sha256 in done.seen:
            hash_cache.remember(name, stamp, sha256)
        hash_cache.flush()
        add_seconds(outcome.seconds, clock.seconds)
        return outcome


def _tell(line: LogLine) -> None:
    """Log what a worker had to say."""
    entry = {"name": line.logger, "levelno": line.level, "levelname": logging.getLevelName(line.level)}
    record = logging.makeLogRecord({**entry, "msg": line.message, "exc_text": line.traceback or None})
    logging.getLogger(line.logger).handle(record)
