"""What becomes of slides with workers that reply, fall silent or die; Dask's side is played by fakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import fakes
import pytest

pytest.importorskip("distributed")

from wbctool.cluster import task_queue
from wbctool.cluster.messages import FieldNotVisible, SlideCompleted, WorkerReport
from wbctool.cluster.task_queue import SLIDES_PER_WORKER, ClusterLimits, TaskQueue
from wbctool.errors import AuditLogCorrupt, ClusterUnusable, OutputNotWritable, WbctoolError
from wbctool.pipeline.context import RunContext
from wbctool.settings import load_settings
from wbctool.store.slide_outcome import SlideOutcome, make_failed_outcome
from wbctool.store.slide_writer import SlideFiles
from wbctool.types.cells import Slide

UNFINISHED = object()
CANCELLED = object()


class FakeFuture:
    """reply: the result, an exception that the task raised, UNFINISHED or CANCELLED. lost: its result is."""

    def __init__(self, key: str, reply: object) -> None:
        self.key, self.reply, self.released = key, reply, False

    @property
    def status(self) -> str:
        if self.reply is CANCELLED:
            return "cancelled"
        return "error" if isinstance(self.reply, WbctoolError) else "finished"

    def done(self) -> bool:
        return self.reply is not UNFINISHED

    def result(self, timeout: float) -> object:
        assert timeout > 0
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def release(self) -> None:
        self.released = True


class FakeCluster:
    """A client and its pool of workers. reply: what becomes of the n-th submission of a slide. died: by task key."""

    def __init__(self, reply: Callable[[Slide, int], object], *addresses: str) -> None:
        self.reply, self.run = reply, "run"
        self.available = {address: WorkerReport(address, "host") for address in addresses}
        self.submitted: list[tuple[str, bool, tuple[str, ...]]] = []
        self.futures: list[FakeFuture] = []
        self.rejected: list[str] = []
        self.polls: list[Callable[[], dict[str, str]]] = []

    def poll(self) -> dict[str, str]:
        return self.polls.pop(0)() if self.polls else {}

    def reject(self, address: str, cause: str) -> None:
        self.rejected.append(cause)
        del self.available[address]

    def submit(self, function, run, slide, metadata, allow_missing, *, workers, resources, pure) -> FakeFuture:
        times = sum(name == slide.id for name, _, _ in self.submitted)
        self.submitted.append((slide.id, allow_missing, tuple(sorted(workers))))
        self.futures.append(FakeFuture(f"key-{len(self.submitted)}", self.reply(slide, times)))
        return self.futures[-1]


def completed(slide: Slide, files: SlideFiles | None = None) -> SlideCompleted:
    return SlideCompleted("host", make_failed_outcome(slide, "read", "none", ()), files, (), (), {})


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., list[SlideOutcome]]:
    """Takes a cluster and slides through a queue."""

    def process(
        cluster: FakeCluster,
        slides: Sequence[Slide | str],
        limits: ClusterLimits = ClusterLimits(),  # noqa: B008, it is frozen
        loops: int = 1000,
    ) -> list[SlideOutcome]:
        settings, turns = load_settings({"slides": tmp_path, "out": tmp_path / "counts.csv"}), count()
        context = RunContext(settings, fakes.fake_stages(settings).models, should_stop=lambda: next(turns) >= loops)
        found = [slide if isinstance(slide, Slide) else Slide(slide, tmp_path, ()) for slide in slides]
        return list(TaskQueue(cluster, cluster, context, limits).process_slides(found))

    return process


def stages_of(outcomes: list[SlideOutcome]) -> list[str]:
    return [outcome.failures[0].stage for outcome in outcomes]


def test_outcomes_are_in_slide_order_and_few_slides_are_in_transit(process) -> None:
    slow = FakeCluster(lambda slide, _: UNFINISHED if slide.id == "0" else completed(slide), "w1", "w2", "w3")
    assert process(slow, map(str, range(100)), loops=12) == []
    assert [name for name, _, _ in slow.submitted] == [str(number) for number in range(3 * SLIDES_PER_WORKER)]
    assert all(future.released for future in slow.futures)


def test_one_slide_per_worker_is_with_dask(process) -> None:
    busy = FakeCluster(lambda *_: UNFINISHED, "w1", "w2", "w3")
    process(busy, map(str, range(100)), loops=5)
    assert [name for name, _, _ in busy.submitted] == ["0", "1", "2"]


def test_no_slide_is_forgotten_while_there_is_no_worker(process) -> None:
    late = FakeCluster(lambda slide, _: completed(slide))
    late.polls = [dict, dict, lambda: late.available.update(w=WorkerReport("w", "host")) or {}]
    assert [outcome.slide for outcome in process(late, "abc")] == ["a", "b", "c"]


def test_run_without_worker_ends_in_time(process) -> None:
    with pytest.raises(ClusterUnusable, match="no worker has been left for 0 seconds"):
        process(FakeCluster(lambda slide, _: completed(slide)), "a", ClusterLimits(no_worker_s=0.1))


def test_error_of_worker_fails_its_slide_alone(process) -> None:
    error = WbctoolError("host: seen by the worker")
    outcomes = process(FakeCluster(lambda slide, _: error if slide.id == "b" else completed(slide), "w"), "abc")
    assert stages_of(outcomes) == ["read", "cluster", "read"]
    assert outcomes[1].failures[0].cause == "host: seen by the worker"


def test_slide_with_a_problem_is_not_submitted(process, tmp_path: Path) -> None:
    cluster = FakeCluster(lambda slide, _: completed(slide), "w")
    outcomes = process(cluster, [Slide("a", tmp_path, (), "cannot be listed"), "b"])
    assert stages_of(outcomes) == ["list", "read"]
    assert [name for name, _, _ in cluster.submitted] == ["b"]


def test_lost_results_are_made_again_until_attempts_are_used_up(process) -> None:
    lossy = FakeCluster(lambda slide, times: OSError("gone") if times < 2 else completed(slide), "w")
    assert stages_of(process(lossy, "a")) == ["read"]
    lost = FakeCluster(lambda *_: OSError("gone"), "w")
    (outcome,) = process(lost, "a")
    assert (len(lost.submitted), stages_of([outcome])) == (3, ["cluster"])
    assert outcome.failures[0].cause.startswith("given up after 3 attempts: its results were lost in transit")


def test_results_that_are_late_are_fetched_again(process) -> None:
    cluster = FakeCluster(lambda *_: TimeoutError(), "w")
    cluster.polls = [dict, dict, lambda: setattr(cluster.futures[0], "reply", completed(Slide("a", Path(), ()))) or {}]
    assert stages_of(process(cluster, "a")) == ["read"]
    assert len(cluster.submitted) == 1


def test_slide_whose_workers_die_has_failed_after_the_last_attempt(process) -> None:
    deadly = FakeCluster(lambda slide, _: UNFINISHED if slide.id == "b" else completed(slide), "w", "v", "u")

    def die() -> dict[str, str]:
        latest = max(number for number, (slide, *_) in enumerate(deadly.submitted, start=1) if slide == "b")
        return {f"key-{latest}": "worker w on host"}

    deadly.polls = [dict, die, die, die]
    outcomes = process(deadly, "abc")
    assert stages_of(outcomes) == ["read", "cluster", "read"]
    assert outcomes[1].failures[0].cause == "given up after 3 attempts: " + "; ".join(
        ["worker w on host died while processing it"] * 3
    )
    assert sum(slide == "a" for slide, *_ in deadly.submitted) == 1


def test_each_slide_has_a_worker_of_its_own(process) -> None:
    cluster = FakeCluster(lambda *_: UNFINISHED, "w", "v")
    process(cluster, "abc", loops=5)
    assert cluster.submitted == [("a", False, ("w",)), ("b", False, ("v",))]


def test_slide_whose_worker_has_gone_is_submitted_to_another(process) -> None:
    cluster = FakeCluster(lambda slide, times: completed(slide) if times else UNFINISHED, "w", "v")
    cluster.polls = [dict, lambda: cluster.available.pop("w") and {}]
    process(cluster, "a")
    assert cluster.submitted == [("a", False, ("w",)), ("a", False, ("v",))]
    assert cluster.futures[0].released


def test_slide_whose_only_worker_has_gone_waits_for_a_new_one(process) -> None:
    cluster = FakeCluster(lambda slide, times: completed(slide) if times else UNFINISHED, "w")

    def join() -> dict[str, str]:
        cluster.available = {"new": WorkerReport("new", "host")}
        return {}

    cluster.polls = [dict, lambda: cluster.available.pop("w") and {}, dict, join]
    process(cluster, "a")
    assert cluster.submitted == [("a", False, ("w",)), ("a", False, ("new",))]


def test_cancelled_slide_ends_run(process) -> None:
    with pytest.raises(ClusterUnusable, match="dropped"):
        process(FakeCluster(lambda *_: CANCELLED, "w"), "a")


def test_worker_that_cannot_see_a_field_is_rejected_and_slide_goes_elsewhere(process, tmp_path: Path) -> None:
    field = fakes.draw_field(tmp_path / "a" / "f.png", ["neutrophil"])
    slide = Slide("a", field.parent, (field,))
    cluster = FakeCluster(lambda slide, times: completed(slide) if times else FieldNotVisible("w", field), "w", "v")
    assert stages_of(process(cluster, [slide])) == ["read"]
    assert cluster.rejected == [f"it cannot see {field}"]
    assert cluster.submitted[1] == ("a", False, ("v",))


def test_field_that_has_gone_fails_as_on_one_machine(process, tmp_path: Path) -> None:
    gone = FieldNotVisible("w", tmp_path / "gone.png")
    cluster = FakeCluster(lambda slide, times: completed(slide) if times else gone, "w")
    assert stages_of(process(cluster, "a")) == ["read"]
    assert (cluster.rejected, cluster.submitted[1]) == ([], ("a", True, ("w",)))


def test_slide_that_cannot_be_published_costs_no_other(process, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AuditLogCorrupt("line 3 of audit.jsonl is damaged")

    monkeypatch.setattr(task_queue, "publish_with_reviews", broken)
    outcomes = process(FakeCluster(lambda slide, _: completed(slide, SlideFiles({}, None)), "w"), "abc")
    assert stages_of(outcomes) == ["report"] * 3
    assert "audit.jsonl is damaged" in outcomes[0].failures[0].cause


def test_output_that_cannot_be_written_ends_run(process, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputNotWritable("no space left")

    monkeypatch.setattr(task_queue, "publish_with_reviews", full)
    with pytest.raises(OutputNotWritable):
        process(FakeCluster(lambda slide, _: completed(slide, SlideFiles({}, None)), "w"), "abc")
