"""Model cards, the choice of models, and sessions with batches of a fixed shape."""

import hashlib
import json
import shutil
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import fakes
import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail
from tiny_models import write_tiny_models
from typer.testing import CliRunner

from wbctool import hardware
from wbctool.cli.app import app
from wbctool.cli.models_optimize import optimize_models
from wbctool.cluster.worker_plugin import cached_models
from wbctool.enums import Device, Precision, Readers
from wbctool.errors import DeviceUnavailable, ModelMismatch, ModelNotFound
from wbctool.inference import session
from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace
from wbctool.inference.loading import Models, load_generators, load_model, load_models, select_cards
from wbctool.inference.model_card import (
    ClassifierCard,
    CompactCard,
    DetectorCard,
    GeneratorCard,
    default_models_dir,
    load_fp32_card,
    read_card,
)
from wbctool.inference.model_folder import card_paths, check_models, read_model_bytes
from wbctool.inference.session import CPU, CUDA, OnnxModel, cuda_unavailable_reason, provider_options
from wbctool.pipeline.bound_stages import build_provenance
from wbctool.settings import RunSettings

pytestmark = pytest.mark.slow  # it works with the shipped models


@pytest.fixture(scope="module")
def models(shipped_models: Models) -> Models:
    return shipped_models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tiny models: cards and hashes are read as those of the shipped ones are."""
    return write_tiny_models(tmp_path / "models")


def test_check_models_finds_no_problem_in_the_shipped_models() -> None:
    report = check_models(default_models_dir())
    assert {path.name for path, _ in report} >= {"detector.json", "generator.json", "classifier.json"}
    assert [problem for _, problem in report if problem] == []


def test_wheel_has_every_tracked_model_and_no_int8_copy() -> None:
    root = Path(__file__).parents[2]
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copies = {".int8", ".fp16"}
    tracked = {p.name for p in (root / "exported").glob("*.*") if p.is_file() and not copies & {*p.suffixes}}
    assert {Path(name).name for name in wheel["force-include"]} == tracked
    assert all(inside == f"wbctool/{name}" for name, inside in wheel["force-include"].items())


def test_run_row_does_not_depend_on_the_other_rows(models: Models) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    together = models.classifier.run(crops)[0]
    alone = np.concatenate([models.classifier.run(crops[k : k + 1])[0] for k in range(3)])
    np.testing.assert_array_equal(together, alone)


def test_run_returns_outputs_by_name(models: Models) -> None:
    features, logits = models.classifier.run(np.zeros((1, 128, 128, 3), np.uint8), "features", "logits")
    assert logits.shape == (1, len(models.classifier.card.classes))
    assert features.shape == (1, 256)


def test_run_returns_all_outputs_in_the_graphs_order(tmp_path: Path) -> None:
    classifier = load_model(write_tiny_models(tmp_path), ClassifierCard)
    assert classifier.output_names == ("logits", "features", "cam")
    outputs = classifier.run(np.full((2, 128, 128, 3), 200, np.uint8))
    assert [(output.shape, output.dtype) for output in outputs] == [
        ((2, 8), np.float32),
        ((2, 3), np.float32),
        ((2, 8, 4, 4), np.uint8),
    ]


@pytest.mark.parametrize("side", [32, 45, 64])
def test_generator_takes_every_side_of_its_card(models: Models, side: int) -> None:
    (sr,) = models.generator.run(np.full((2, side, side, 3), 128, np.uint8))
    assert sr.shape == (2, 4 * side, 4 * side, 3)
    assert sr.dtype == np.uint8


def test_load_models_refuses_an_altered_model_with_both_hashes(folder: Path) -> None:
    path = folder / "generator.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    expected = json.loads((folder / "generator.json").read_text())["sha256"]
    with pytest.raises(ModelMismatch, match=r"generator\.onnx") as caught:
        load_models(folder, Device.CPU, Precision.AUTO)
    assert expected in str(caught.value)
    assert hashlib.sha256(content).hexdigest() in str(caught.value)


@pytest.mark.parametrize("name", ["detector.onnx", "classifier.json"])
def test_load_models_names_a_missing_model_or_card(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelNotFound, match=name):
        load_models(folder, Device.CPU, Precision.AUTO)


def test_load_model_without_the_subtypes_of_its_card_is_refused(tmp_path: Path) -> None:
    path = write_tiny_models(tmp_path) / "compact.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"subtypes": ["band", "segmented"]}))
    with pytest.raises(ModelMismatch, match=r"compact\.onnx gives outputs of shape .* unlike its card"):
        load_model(tmp_path, CompactCard)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, '{"kind": "detector"}'], ids=range(5))
def test_load_models_refuses_a_file_that_is_no_card(folder: Path, content: str) -> None:
    (folder / "detector.json").write_text(content)
    with pytest.raises(ModelMismatch, match=r"detector\.json is not a model card"):
        load_models(folder, Device.CPU, Precision.AUTO)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("detector", {"score_threshold": float("nan")}),
        ("detector", {"stride": 0}),
        ("detector", {"size_divisor": 0}),
        ("detector", {"classes": ["wbc", "wbc", "rbc"]}),
        ("generator", {"scale": 0}),
        ("classifier", {"energy_threshold": float("nan")}),
        ("classifier", {"crop_margin": -1}),
        ("classifier", {"classes": ["neutrophil"] * 8}),
    ],
)
def test_load_models_refuses_a_card_with_impossible_values(folder: Path, name: str, entry: dict[str, object]) -> None:
    """Otherwise every slide would be ok with nothing counted."""
    card = json.loads((folder / f"{name}.json").read_text())
    (folder / f"{name}.json").write_text(json.dumps(card | entry))
    with pytest.raises(ModelMismatch, match=rf"{name}\.json is not a model card: {name}.{next(iter(entry))}"):
        load_models(folder, Device.CPU, Precision.AUTO)


def test_load_models_refuses_swapped_cards(folder: Path) -> None:
    shutil.copy(folder / "detector.json", folder / "generator.json")
    with pytest.raises(ModelMismatch, match="describes a detector, not a generator"):
        load_models(folder, Device.CPU, Precision.AUTO)


def test_read_card_refuses_a_file_outside_its_folder(folder: Path) -> None:
    card = json.loads((folder / "detector.json").read_text())
    (folder / "detector.json").write_text(json.dumps(card | {"file": "../detector.onnx"}))
    with pytest.raises(ModelMismatch, match="not a model card"):
        read_card(folder / "detector.json")


def test_check_models_in_empty_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model card"):
        check_models(tmp_path)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP16])
def test_load_models_without_the_demanded_copy_raises(folder: Path, precision: Precision) -> None:
    with pytest.raises(
        ModelNotFound, match=f"no {precision} copy .*optimize --precision {precision}` makes one where it is faster"
    ):
        load_models(folder, Device.CPU, precision)


def write_copy(folder: Path, kind: str, source_sha256: str | None = None, precision: str = "int8") -> None:
    """Write a copy of the fp32 file's own bytes; ``source_sha256`` is the real one if None."""
    card = json.loads((folder / f"{kind}.json").read_text())
    info = {"source_sha256": source_sha256 or card["sha256"], "calibrated_on": "a", "measured_on": "b", "cells": 1}
    info |= {"images": 1, "changed_labels": 0, "changed_outcomes": 0}
    file, name = f"{kind}.{precision}.onnx", f"{kind}-{precision}"
    copy = card | {"file": file, "precision": precision, "quantized_from": info, "name": name}
    shutil.copy(folder / f"{kind}.onnx", folder / file)
    (folder / f"{kind}.{precision}.json").write_text(json.dumps(copy))


@pytest.mark.parametrize(
    ("precision", "used"), [(Precision.AUTO, "int8"), (Precision.INT8, "int8"), (Precision.FP32, "fp32")]
)
def test_load_models_on_cpu_takes_int8_copies_by_default(folder: Path, precision: Precision, used: str) -> None:
    write_copy(folder, "classifier")
    write_copy(folder, "generator")
    loaded = load_models(folder, Device.CPU, precision)
    assert (loaded.classifier.precision, loaded.generator.precision) == (used, used)
    assert loaded.detector.precision is Precision.FP32  # there are no copies of it


@pytest.mark.parametrize(
    ("provider", "precision", "used"),
    [
        (CPU, Precision.AUTO, "int8"),
        (CUDA, Precision.AUTO, "fp16"),
        (CPU, Precision.FP16, "fp16"),
        (CUDA, Precision.INT8, "int8"),
        (CUDA, Precision.FP32, "fp32"),
    ],
)
def test_select_cards_auto_takes_the_fastest_copy_for_the_provider(
    folder: Path, provider: str, precision: Precision, used: str
) -> None:
    for copy in ("int8", "fp16"):
        write_copy(folder, "classifier", precision=copy)
        write_copy(folder, "generator", precision=copy)
    cards = select_cards(folder, provider, precision)
    assert [card.precision for card in cards] == ["fp32", used, used, "fp32"]  # the second reader has no copy


def test_load_models_never_runs_a_copy_of_another_model(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_copy(folder, "classifier", source_sha256="1" * 64)
    write_copy(folder, "generator")
    message = "classifier.int8.onnx is not a copy of classifier.onnx but of a model"
    assert load_models(folder, Device.CPU, Precision.AUTO).classifier.precision is Precision.FP32
    assert f"{message} with SHA-256 {'1' * 64}" in caplog.text
    assert "using the fp32 model" in caplog.text
    with pytest.raises(ModelMismatch, match=message):
        load_models(folder, Device.CPU, Precision.INT8)
    problems = {path.name: problem for path, problem in check_models(folder) if problem}
    assert list(problems) == ["classifier.int8.json"]
    assert message in problems["classifier.int8.json"]


def test_load_models_takes_an_fp32_generator_if_it_has_no_copy(folder: Path) -> None:
    write_copy(folder, "classifier")
    loaded = load_models(folder, Device.CPU, Precision.INT8)
    assert (loaded.classifier.precision, loaded.generator.precision) == ("int8", "fp32")


@pytest.mark.parametrize("changed", [{"confidence_threshold": 0.95}, {"temperature": 1.5}, {"energy_threshold": -3.0}])
def test_load_models_leaves_out_a_copy_with_other_thresholds(
    folder: Path, changed: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    """A classifier that was only calibrated again has the same bytes."""
    write_copy(folder, "classifier")
    path = folder / "classifier.json"
    card = json.loads(path.read_text()) | changed
    path.write_text(json.dumps(card))
    used = load_models(folder, Device.CPU, Precision.AUTO).classifier.card
    assert (used.precision, used.confidence_threshold) == ("fp32", card["confidence_threshold"])
    assert (
        f"the card of classifier.int8.onnx differs from that of classifier.onnx in {next(iter(changed))}" in caplog.text
    )


def test_check_models_names_a_missing_card(folder: Path) -> None:
    (folder / "classifier.json").unlink()
    assert (folder / "classifier.json", "the model card is missing") in check_models(folder)


def test_other_json_does_not_make_models_unusable(folder: Path) -> None:
    """`wbctool evaluate DATA --models M --out M` leaves one there."""
    for name, content in (
        ("evaluation", {"data": "d", "misclassifications": {}}),
        ("list", []),
        ("model-index", {"name": "x"}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "folder.json").mkdir()
    assert [path.stem for path in card_paths(folder)] == ["classifier", "compact", "detector", "generator"]
    assert [problem for _, problem in check_models(folder)] == [None] * 4
    assert [model.card.name for model in load_generators(folder)] == ["generator"]
    assert cached_models(folder, Device.CPU, Precision.FP32, Readers.BOTH).classifier.card.name == "classifier"


@pytest.mark.parametrize("name", ["detector.json", "generator.int8.json", "generator-pixel.json"])
@pytest.mark.parametrize("content", ["", '{"kind": "gener', '{"kind": "generator"}'])
def test_damaged_card_is_an_error(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    problems = {path.name: problem for path, problem in check_models(folder) if problem}
    assert list(problems) == [name]
    assert "is not a model card" in problems[name]
    with pytest.raises(ModelMismatch, match="is not a model card"):
        load_generators(folder)
    with pytest.raises(ModelMismatch, match="is not a model card"):
        cached_models(folder, Device.CPU, Precision.FP32, Readers.BOTH)


@pytest.mark.parametrize("content", ["[]", "{}"])
def test_card_of_a_run_is_a_card_by_its_name(folder: Path, content: str) -> None:
    (folder / "detector.json").write_text(content)
    assert [path.name for path, problem in check_models(folder) if problem] == ["detector.json"]


def test_models_list_continues_after_an_unreadable_card(folder: Path) -> None:
    (folder / "detector.json").write_text("{")
    (folder / "generator.json").unlink()
    (folder / "generator.onnx").unlink()
    (folder / "classifier.onnx").unlink()
    done = CliRunner().invoke(app, ["models", "list", "--models", str(folder)])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert [line.split(",")[0] for line in lines] == ["classifier 0", "compact 0"]
    assert all("; classes: neutrophil, lymphocyte" in line for line in lines)
    messages = done.stderr.splitlines()
    assert f"wbctool: {folder}/detector.json is not a model card: " in messages[0]
    assert messages[1] == f"wbctool: the model card {folder}/generator.json is missing"


def test_build_provenance_names_different_precisions(folder: Path) -> None:
    write_copy(folder, "generator")
    cards = select_cards(folder, CPU, Precision.AUTO)
    assert (
        build_provenance(cards, CPU, RunSettings(slides=folder, out=folder / "c.csv")).precision
        == "fp32 (generator int8)"
    )
    write_copy(folder, "classifier")
    cards = select_cards(folder, CPU, Precision.AUTO)
    settings = RunSettings(slides=folder, out=folder / "c.csv")
    assert build_provenance(cards, CPU, settings).precision == "int8 (compact fp32)"
    write_copy(folder, "compact")
    cards = select_cards(folder, CPU, Precision.AUTO)
    assert build_provenance(cards, CPU, settings).precision == "int8"


def test_load_models_refuses_a_copy_without_source(folder: Path) -> None:
    write_copy(folder, "classifier")
    path = folder / "classifier.int8.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantized_from": None}))
    with pytest.raises(ModelMismatch, match="does not name the model"):
        load_models(folder, Device.CPU, Precision.INT8)


def test_load_generators_leaves_out_a_stale_copy(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_copy(folder, "generator")
    assert [model.card.name for model in load_generators(folder)] == ["generator-int8", "generator"]
    write_copy(folder, "generator", source_sha256="1" * 64)
    assert [model.card.name for model in load_generators(folder)] == ["generator"]
    assert "it is left out" in caplog.text


def test_load_models_refuses_an_altered_copy(folder: Path) -> None:
    write_copy(folder, "generator")
    with (folder / "generator.int8.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelMismatch, match=r"generator\.int8\.onnx is not the model its card describes"):
        load_models(folder, Device.CPU, Precision.AUTO)


def _cuda_runs() -> bool:
    card = read_card(default_models_dir() / "detector.json")
    return cuda_unavailable_reason(card, (default_models_dir() / card.file).read_bytes()) is None


def test_load_models_with_absent_cuda_raises(folder: Path) -> None:
    if _cuda_runs():
        pytest.skip("a CUDA device works here")
    with pytest.raises(DeviceUnavailable, match="no session runs on CUDA"):
        load_models(folder, Device.CUDA, Precision.AUTO)


def test_load_models_auto_says_nothing_of_cuda_where_there_is_no_gpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not even try: CUDA's libraries take 200 MB."""
    monkeypatch.setattr("wbctool.inference.loading.has_nvidia_gpu", lambda: False)
    monkeypatch.setattr("wbctool.inference.loading.cuda_unavailable_reason", lambda *_: pytest.fail("CUDA was tried"))
    models = load_models(folder, Device.AUTO, Precision.AUTO)
    assert (models.provider, models.device_message) == ("CPUExecutionProvider", None)


def test_load_models_auto_reports_its_fallback_where_there_is_a_gpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wbctool.inference.loading.has_nvidia_gpu", lambda: True)
    if _cuda_runs():
        pytest.skip("a CUDA device works here")
    loaded = load_models(folder, Device.AUTO, Precision.AUTO)
    assert loaded.provider == "CPUExecutionProvider"
    assert loaded.device_message is not None
    assert "running on the CPU" in loaded.device_message


class FullDevice:
    """A session on a device whose memory holds ``fits`` rows."""

    def __init__(self, fits: int, message: str = "CUDA failure 2: out of memory") -> None:
        self.fits, self.message, self.batch_sizes = fits, message, list[int]()

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="rgb")]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="logits")]

    def run(self, _: Sequence[str], feeds: dict[str, np.ndarray], options: object) -> list[np.ndarray]:
        (batch,) = feeds.values()
        self.batch_sizes.append(len(batch))
        if len(batch) > self.fits:
            raise RuntimeError(self.message)
        return [batch[:, 0, 0, :1].astype(int)]


def on(session: FullDevice, models: Models, provider: str = CUDA) -> OnnxModel[ClassifierCard]:
    return OnnxModel(session, models.classifier.card, provider, 64)  # type: ignore[arg-type]


def test_run_without_images_is_refused(models: Models) -> None:
    with pytest.raises(ValueError, match="no images"):
        models.generator.run(np.zeros((0, 32, 32, 3), np.uint8))


def test_run_on_full_device_halves_the_batch(models: Models, caplog: pytest.LogCaptureFixture) -> None:
    session = FullDevice(fits=20)
    model = on(session, models)
    cells = np.arange(50, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    (out,) = model.run(cells)
    assert out[:, 0].tolist() == list(range(50))
    assert session.batch_sizes == [64, 32, 16, 16, 16, 16]
    assert model.batch_size == 16
    assert "out of device memory; continuing with 16 rows" in caplog.text
    model.run(cells[:1])
    assert session.batch_sizes[-1] == 16


def test_run_does_not_replace_a_failing_provider(models: Models) -> None:
    """onnxruntime would continue on the CPU, and the results would still name CUDA."""
    session = models.classifier._session

    class Failing:
        def run(self, *_: object) -> None:
            raise EPFail("a kernel failed")

        def __getattr__(self, name: str) -> object:
            return getattr(working, name)

    working, session._sess = session._sess, Failing()
    try:
        with pytest.raises(EPFail):
            models.classifier.run(np.zeros((1, 128, 128, 3), np.uint8))
    finally:
        session._sess = working


@pytest.mark.parametrize(
    "message",
    [
        "CUDA failure 2: out of memory",
        "CUDNN failure 4002: CUDNN_STATUS_ALLOC_FAILED",
        "CUDNN failure 4004: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 1024",
    ],
)
def test_run_recognizes_every_out_of_memory_message(models: Models, message: str) -> None:
    model = on(FullDevice(fits=40, message=message), models)
    model.run(np.zeros((1, 1, 1, 3), np.uint8))
    assert model.batch_size == 32


def test_run_on_gpu_is_serialized(models: Models) -> None:
    """Otherwise the fields and cells of many threads would be in its memory at once."""

    class Busy(FullDevice):
        now = peak = 0

        def run(self, _: Sequence[str], feeds: dict[str, np.ndarray], options: object) -> list[np.ndarray]:
            self.now += 1
            self.peak = max(self.peak, self.now)
            time.sleep(0.01)
            self.now -= 1
            return super().run(_, feeds, options)

    def peak_calls(provider: str) -> int:
        session = Busy(fits=64)
        model = on(session, models, provider)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(model.run, [np.zeros((1, 1, 1, 3), np.uint8)] * 8))
        return session.peak

    assert peak_calls(CUDA) == 1
    assert peak_calls(CPU) > 1


def test_provider_options_disable_tf32_for_fp32_only() -> None:
    fp32, fp16 = (provider_options(CUDA, precision) for precision in (Precision.FP32, Precision.FP16))
    assert fp32["use_tf32"] == "0"
    assert "use_tf32" not in fp16
    assert fp32["cudnn_conv_algo_search"] == fp16["cudnn_conv_algo_search"] == "HEURISTIC"
    assert provider_options(CPU, Precision.FP32) == {}


def test_cuda_unavailable_reason_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime would print the cause, even into `wbctool doctor --json`, and use the CPU."""
    card = load_fp32_card(default_models_dir(), DetectorCard)
    content = read_model_bytes(card, default_models_dir())

    def broken(self: object, *_: object) -> None:
        raise RuntimeError("CUDA failure 35: the driver's version is insufficient")

    monkeypatch.setattr(session.ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(session.ort.InferenceSession, "_create_inference_session", broken)
    assert "the driver's version is insufficient" in str(cuda_unavailable_reason(card, content))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("session", "provider"),
    [
        (FullDevice(fits=0), CUDA),
        (FullDevice(fits=20, message="a bad node"), CUDA),
        (FullDevice(fits=20), "CPUExecutionProvider"),
    ],
)
def test_run_raises_other_failures(models: Models, session: FullDevice, provider: str) -> None:
    with pytest.raises(RuntimeError, match=session.message):
        on(session, models, provider).run(np.zeros((1, 1, 1, 3), np.uint8))


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(models: Models) -> None:
    if not _cuda_runs():
        pytest.skip("no CUDA device that onnxruntime can run on")
    crops = np.random.default_rng(1).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    on_cuda = load_model(default_models_dir(), ClassifierCard, Device.CUDA)
    assert on_cuda.provider == CUDA
    np.testing.assert_allclose(on_cuda.run(crops)[0], models.classifier.run(crops)[0], atol=0.05)


@pytest.mark.gpu
def test_cuda_gives_the_same_bytes_for_any_batch() -> None:
    if not _cuda_runs():
        pytest.skip("no CUDA device that onnxruntime can run on")
    crops = np.random.default_rng(1).integers(0, 256, (70, 128, 128, 3), dtype=np.uint8)
    first, second = (load_model(default_models_dir(), ClassifierCard, Device.CUDA) for _ in range(2))
    np.testing.assert_array_equal(first.run(crops)[0], second.run(crops)[0])
    np.testing.assert_array_equal(first.run(crops[:1])[0], second.run(crops)[0][:1])


@pytest.mark.gpu
def test_cuda_takes_an_fp16_copy_that_agrees_with_the_cpu(tmp_path: Path, models: Models) -> None:
    if not _cuda_runs():
        pytest.skip("no CUDA device that onnxruntime can run on")
    skipped = shutil.ignore_patterns("training", "*.int8.*", "*.fp16.*")  # copies that were made on this machine
    folder = shutil.copytree(default_models_dir(), tmp_path / "models", ignore=skipped)
    assert optimize_models(folder, None, None, Precision.FP16, fakes.make_comparison_clock(2.0, 1.0)) == 0
    crops = np.random.default_rng(1).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    on_cuda = load_models(folder, Device.CUDA, Precision.AUTO).classifier
    assert (on_cuda.provider, on_cuda.precision) == (CUDA, Precision.FP16)
    np.testing.assert_allclose(on_cuda.run(crops)[0], models.classifier.run(crops)[0], atol=0.1)


def test_check_models_reports_a_card_of_another_kind(folder: Path) -> None:
    shutil.copy(folder / "detector.json", folder / "classifier.json")
    problems = {path.name: problem for path, problem in check_models(folder) if problem}
    assert list(problems) == ["classifier.json"]
    assert problems["classifier.json"].endswith("classifier.json describes a detector, not a classifier")


def test_load_models_refuses_a_model_with_other_output_names(folder: Path) -> None:
    path = folder / "classifier.onnx"
    content = path.read_bytes().replace(b"logits", b"scores")
    path.write_bytes(content)
    card = json.loads((folder / "classifier.json").read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
    (folder / "classifier.json").write_text(json.dumps(card))
    with pytest.raises(ModelMismatch, match="unlike its card"):
        load_models(folder, Device.CPU, Precision.FP32)


def test_load_models_refuses_a_map_of_what_is_no_class(folder: Path) -> None:
    """The logits alone would fit: seven classes and a kind that is none."""
    path = folder / "classifier.json"
    card = json.loads(path.read_text())
    changes = {"classes": card["classes"][:7], "unknown_kinds": ["blast"], "unknown_threshold": 0.5}
    path.write_text(json.dumps(card | changes))
    with pytest.raises(ModelMismatch, match="unlike its card"):
        load_models(folder, Device.CPU, Precision.FP32, Readers.VGG19)


@pytest.mark.parametrize("outputs", ["none", "others"])
def test_load_models_refuses_a_card_of_distances_without_their_features(folder: Path, outputs: str) -> None:
    path = folder / "classifier.json"
    card = json.loads(path.read_text())
    n_features = 3 if outputs == "none" else 4  # the graph has three
    space = FeatureSpace.from_arrays(np.zeros((n_features, 2), np.float32), np.zeros((8, 2), np.float32))
    rule = FamiliarityRule(space=space, max_mean_distance=1, min_cells=1, min_confidence=0.9)
    card["familiarity"] = rule.model_dump()
    if outputs == "none":
        content = (folder / "classifier.onnx").read_bytes().replace(b"features", b"fixtures")
        (folder / "classifier.onnx").write_bytes(content)
        card["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(card))
    with pytest.raises(ModelMismatch, match="unlike its card"):
        load_models(folder, Device.CPU, Precision.FP32)


def test_load_models_refuses_a_card_with_other_classes(folder: Path) -> None:
    path = folder / "classifier.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"classes": card["classes"][:4]}))
    with pytest.raises(ModelMismatch, match="unlike its card"):
        load_models(folder, Device.CPU, Precision.AUTO)


@pytest.mark.parametrize(
    ("flags", "precision", "slower"),
    [
        ("flags : fpu avx2 avx512f avx512_vnni", Precision.INT8, False),
        ("flags : fpu avx2 avx_vnni", Precision.INT8, False),
        ("flags : fpu avx2 avx512f", Precision.INT8, True),
        (None, Precision.INT8, True),
        ("flags : fpu avx2 avx512f", Precision.FP32, False),
    ],
)
def test_create_session_avoids_int8_overflow_without_vnni_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, precision: Precision, slower: bool
) -> None:
    """If it avoided overflow for nothing, a cell would take 82 ms instead of 31."""
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    folder = write_tiny_models(tmp_path / "models")
    card = load_fp32_card(folder, GeneratorCard)
    content = read_model_bytes(card, folder)
    model = session.create_session(card.model_copy(update={"precision": precision}), content)
    options = model._session.get_session_options()
    if slower:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry("session.x64quantprecision")
