"""A run on a Dask cluster: which workers may do its slides.

Before it gets a slide a worker is asked for its wbctool's version and told to load the models. One that differs from
the coordinator is refused by name. Workers come and go as they like: a new one is asked as the first were.
"""

from __future__ import annotations

import json
import logging
import pydoc
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import wbctool
from wbctool.cluster.messages import Equipment, Failed, Job
from wbctool.cluster.worker import equip
from wbctool.enums import Device
from wbctool.errors import ClusterUnusable
from wbctool.pipeline.field_worker import format_error

if TYPE_CHECKING:
    from distributed import Client, Future


log = logging.getLogger(__name__)

VERSION_CALL = (pydoc.locate, "wbctool.__version__")
"""What says which wbctool a process has, None if none; of Python's own library, so that any process can run it."""
NO_WORKER_S = 300.0
"""A run waits so long for a worker, at first and when all have gone: a nanny or a queue may be about to start one."""
GATHER_S = 60.0
"""So long an answer that Dask says is there may take from its worker, which may just have died."""
_BETWEEN_LOOKS_S = 0.5
_TRIES = 3  # a worker whose answers are lost each time is refused
_FIRST = 10  # before the slides of other runs


def other_version(theirs: object) -> str:
    """What a process with another wbctool has, in words; empty where it has the same. theirs: as VERSION_CALL says."""
    if theirs == wbctool.__version__:
        return ""
    says = "no wbctool" if theirs is None else f"wbctool {theirs}"
    return f"has {says}, but this run uses wbctool {wbctool.__version__}"


@dataclass(frozen=True, slots=True)
class Member:
    """A worker that may do slides. slots: how many at a time. resources: what Dask is told that a slide takes."""

    address: str
    equipment: Equipment
    slots: int
    resources: Mapping[str, float]

    @property
    def host(self) -> str:
        """The machine's name."""
        return self.equipment.host


@dataclass(slots=True)
class Roster:
    """The workers of a cluster, as a run sees them.

    expected: what the results depend on with a provider, by the coordinator's own models. provider: the run's, because
    results must not depend on which worker was free; until it is set nobody is a member. refused: by name, and why.
    ever, lost: the processes that were members, and those of them that have gone.
    """

    client: Client
    job: Job
    expected: Callable[[str], Mapping[str, Any]]
    provider: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    candidates: dict[str, Equipment] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    _shunned: set[str] = field(default_factory=set)
    _asked: dict[str, tuple[Future[Any], Future[Any]]] = field(default_factory=dict)
    _threads: dict[str, int] = field(default_factory=dict)
    _unheard: Counter[str] = field(default_factory=Counter)
    _looked: float = float("-inf")

    @property
    def waits_for(self) -> int:
        """How many workers are still to answer."""
        return len(self._asked)

    def look(self) -> set[str]:
        """See who is new and who has answered. Returns the addresses of the members that have gone.

        Raises ClusterUnusable where the scheduler has gone.
        """
        if time.monotonic() - self._looked < _BETWEEN_LOOKS_S:
            return set()
        self._threads = self._workers()
        self._looked = time.monotonic()
        self._shunned &= self._threads.keys()
        for known in (self._asked, self.candidates):
            for address in known.keys() - self._threads.keys():
                del known[address]
        known_ones = self._asked.keys() | self.candidates.keys() | self.members.keys() | self._shunned
        for address in self._threads.keys() - known_ones:
            self._ask(address)
        for address, asked in list(self._asked.items()):
            if all(future.done() for future in asked):
                del self._asked[address]
                self._hear(address, *asked)
        self._admit()
        return self.members.keys() - self._threads.keys()

    def settle(self, provider: str, device: Device) -> None:
        """Say what the run's provider is; from now on workers are told, and need not find out."""
        self.provider = provider
        self.job = replace(self.job, settings=self.job.settings.model_copy(update={"device": device}))
        self._admit()

    def refuse(self, address: str, host: str, cause: str) -> None:
        """A worker that gets no slide, or no more. host: empty where it could not even say that."""
        self.members.pop(address, None)
        self._shunned.add(address)
        name = f"{address} on {host}" if host else address
        self.refused[name] = cause
        log.error("worker %s is refused: %s", name, cause)

    def forget(self, address: str) -> Member:
        """A member that has gone; one that comes at its address is a new one."""
        member = self.members.pop(address)
        self.lost.add(member.equipment.process)
        return member

    def forget_if_there(self, member: Member) -> None:
        """Unless it was forgotten for another of its slides, and perhaps a new one has come at its address."""
        if self.members.get(member.address) == member:
            self.forget(member.address)

    def ask_again(self, member: Member) -> None:
        """A member that lives, but has forgotten the run: it is told of it once more."""
        if self.members.get(member.address) == member:
            del self.members[member.address]

    def _workers(self) -> dict[str, int]:
        if self.client.status != "running":
            raise ClusterUnusable("the connection to the Dask scheduler was lost")
        try:
            return dict(self.client.nthreads())
        except (OSError, ValueError, TypeError) as error:
            raise ClusterUnusable(f"the Dask scheduler no longer responds: {error}") from error

    def _ask(self, address: str) -> None:
        """By tasks, which wait their turn and hold nobody up. The first is not ours, so that any worker can answer."""

        def submit(function: Callable[..., Any], *args: Any) -> Future[Any]:
            return self.client.submit(
                function, *args, workers=[address], allow_other_workers=False, pure=False, priority=_FIRST
            )

        self._asked[address] = (submit(*VERSION_CALL), submit(equip, self.job))

    def _hear(self, address: str, version: Future[Any], equipment: Future[Any]) -> None:
        """One whose answer is lost, as where it dies just then, is asked again if it is still there."""
        try:
            self._judge(address, version, equipment)
        except Exception as lost:  # the network's, and whatever an answer raises that cannot be read
            self._unheard[address] += 1
            log.warning("worker %s: its answer was lost in transit: %r", address, lost)
            if self._unheard[address] >= _TRIES:
                self.refuse(address, "", f"its answers were lost {_TRIES} times, the last by {lost!r}")

    def _judge(self, address: str, version: Future[Any], equipment: Future[Any]) -> None:
        other = other_version(version.result(timeout=GATHER_S)) if version.status == "finished" else ""
        if other:
            self.refuse(address, "", f"it {other}")
        elif equipment.status == "error":
            error = equipment.exception(timeout=GATHER_S)
            self.refuse(address, "", format_error(error) if isinstance(error, Exception) else repr(error))
        elif equipment.status == "finished":
            answer = equipment.result(timeout=GATHER_S)
            if isinstance(answer, Failed):
                self.refuse(address, "", answer.cause)
            else:
                self.candidates[address] = answer

    def _admit(self) -> None:
        if self.provider is None:
            return
        for address, equipment in self.candidates.items():
            cause = self._objection(equipment)
            if cause:
                self.refuse(address, equipment.host, cause)
                continue
            gpus = int(equipment.gpus) if self.provider.startswith("CUDA") else 0
            slots = min(self._threads[address], gpus) if gpus else self._threads[address]
            self.members[address] = Member(address, equipment, slots, {"GPU": 1} if gpus else {})
            self.ever.add(equipment.process)
            log.info("worker %s on %s: %d slides at a time", address, equipment.host, slots)
        self.candidates.clear()

    def _objection(self, equipment: Equipment) -> str:
        """Why a worker's results would not be those of the others; empty where they would."""
        assert self.provider is not None
        if equipment.provenance.provider != self.provider:
            return f"it runs on {equipment.provenance.provider}, but this run uses {self.provider}"
        ours, theirs = (json.loads(json.dumps(basis)) for basis in (self.expected(self.provider), equipment.basis))
        if ours == theirs:
            return ""
        for mine, other in zip(ours["cards"], theirs["cards"], strict=True):
            if (mine["file"], mine["sha256"]) != (other["file"], other["sha256"]):
                return f"its {other['file']} has SHA-256 {other['sha256']}, {mine['file']} here {mine['sha256']}"
            if mine != other:
                return f"its card of {other['file']} differs from the one here"
        return "its wbctool gives different results for the same models and settings"
