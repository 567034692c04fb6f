"""Trained models as sessions that run them, and the policy of providers.

The only module that runs onnxruntime's sessions; its quantiser is wbctool.lab.quantisation's.

A model is loaded only if its bytes are the ones its card names (wbctool.cards).
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Generic

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from wbctool.cards import (
    Card,
    CardT,
    ClassifierCard,
    DetectorCard,
    GeneratorCard,
    card_of_kind,
    card_paths,
    copy_path,
    kind_name,
    plain_card,
    read_card,
    read_model_bytes,
    stale_copy,
)
from wbctool.choices import Device, Precision
from wbctool.dense_head import DenseHead, read_dense_head
from wbctool.errors import DeviceUnavailable, ModelMismatch, ModelNotFound
from wbctool.processor import has_vnni

log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
# Rows of every batch a session sees. A fixed shape makes a cell's result independent of the cells beside it; few rows
# on a CPU, where a row more costs its full time, many on a GPU, where it costs nearly nothing. Fields come one by one;
# the generator's crops come in many sizes, so that few share a batch.
_ROWS = {
    CPU: {"detector": 1, "generator": 1, "classifier": 1},
    CUDA: {"detector": 1, "generator": 8, "classifier": 64},
}
# On CUDA no algorithm is chosen by timing it, so that the same input gives the same bytes: HEURISTIC asks cuDNN which.
# DEFAULT is not it: since onnxruntime 1.20 that takes those of last resort, many times slower (its issue 22705).
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
_EXACT_FP32 = {"use_tf32": "0"}  # not with fp16: it would take the tensor cores from that too
# Makes int8 weights unsigned, so that sums of products do not overflow 16 bits. Where the processor adds in 32 bits
# (wbctool.processor) it would cost more than half of int8's speed for nothing.
_NO_INT8_OVERFLOW = "session.x64quantprecision"
_AUTO = {CPU: Precision.INT8, CUDA: Precision.FP16}  # what is fastest there
_OUT_OF_MEMORY = re.compile("out of memory|failed to allocate memory|alloc(ation)?_failed", re.IGNORECASE)
_SILENT = 4
_QUIET = 3  # onnxruntime warns of every missing GPU on standard error; what matters of that is said by us

AnyArray = NDArray[Any]
Cards = tuple[DetectorCard, GeneratorCard, ClassifierCard]


class OnnxModel(Generic[CardT]):
    """A model ready to run.

    provider: the provider of the warmed-up session. rows: the fixed number of rows each call of the session has.
    """

    def __init__(self, session: ort.InferenceSession, card: CardT, provider: str, rows: int) -> None:
        self._session = session
        self.card: CardT = card
        self.provider, self.rows = provider, rows
        self._input = session.get_inputs()[0].name
        # Calls on a GPU share its memory and would only wait there for each other.
        self._turn: AbstractContextManager[object] = Lock() if provider == CUDA else nullcontext()

    @property
    def precision(self) -> Precision:
        """The arithmetic of this graph, as its card says."""
        return self.card.precision

    def run(self, batch: AnyArray) -> tuple[AnyArray, ...]:
        """batch: (N, H, W, 3) uint8 RGB, N any number -> the graph's outputs, N rows each.

        The session sees ``rows`` rows at a time, the last batch filled up with zeros, so that what a row gives does not
        depend on N. On a GPU one call is made at a time.
        """
        with self._turn:
            return self._run(batch)

    def _run(self, batch: AnyArray) -> tuple[AnyArray, ...]:
        parts: list[list[AnyArray]] = []
        start = 0
        while start < len(batch):
            part: AnyArray = batch[start : start + self.rows]
            missing = self.rows - len(part)
            padded = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
            try:
                outputs = self._session.run(None, {self._input: padded})
            except Exception as error:  # onnxruntime's own classes do not tell memory from the rest
                self._halve_rows(error)
                continue
            parts.append([output[: len(part)] for output in outputs])
            start += len(part)
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _halve_rows(self, error: Exception) -> None:
        """Raises ``error`` again, unless it says that the device's memory is full and fewer rows may fit.

        Rows of another shape may differ in their last digits: it is logged, and ``Models.rows`` goes into run.json.
        """
        if self.rows == 1 or self.provider == CPU or not _OUT_OF_MEMORY.search(str(error)):
            raise error
        self.rows //= 2
        log.warning("%s: out of device memory; continuing with %d rows at a time", self.card.file, self.rows)


@dataclass(frozen=True, slots=True)
class Models:
    """The three models of a run. device_note: one line on what ``auto`` fell back to; None where it did not.

    head: the classifier's dense layers; None where its graph is not built as training builds it.
    """

    detector: OnnxModel[DetectorCard]
    generator: OnnxModel[GeneratorCard]
    classifier: OnnxModel[ClassifierCard]
    device_note: str | None = None
    head: DenseHead | None = None

    @property
    def provider(self) -> str:
        """The provider the models really run on."""
        return self.classifier.provider

    @property
    def rows(self) -> dict[str, int]:
        """The rows of each model's batches, by the model file's name; fewer than at first once memory was full."""
        return {m.card.file: m.rows for m in (self.detector, self.generator, self.classifier)}


def load_models(folder: Path, device: Device, precision: Precision, threads: int = 0) -> Models:
    """Load, start and warm up the three models.

    threads: that one call takes on a CPU; 0 for all cores, 1 where several calls are made at a time.

    Raises ModelNotFound, ModelMismatch, or DeviceUnavailable where CUDA is demanded and no session runs there.
    """
    plain = plain_card(folder, DetectorCard)
    provider, note = _choose_provider(device, plain, read_model_bytes(plain, folder))

    def load(kind: type[CardT]) -> tuple[OnnxModel[CardT], bytes]:
        card = _choose_card(folder, kind, provider, precision)
        content = read_model_bytes(card, folder)
        return start_model(card, content, provider, threads), content

    with ThreadPoolExecutor(thread_name_prefix="load") as side_by_side:
        detector, generator = side_by_side.submit(load, DetectorCard), side_by_side.submit(load, GeneratorCard)
        classifier, content = load(ClassifierCard)
    return Models(detector.result()[0], generator.result()[0], classifier, note, read_dense_head(content))


def cards_in_use(folder: Path, provider: str, precision: Precision) -> Cards:
    """The cards of the models that a machine with that provider would load; raises as :func:`load_models`.

    No session is started: a cluster's coordinator may have no GPU.
    """
    kinds = (DetectorCard, GeneratorCard, ClassifierCard)
    cards = tuple(_choose_card(folder, kind, provider, precision) for kind in kinds)
    for card in cards:
        read_model_bytes(card, folder)
    detector, generator, classifier = cards
    assert isinstance(detector, DetectorCard)
    assert isinstance(generator, GeneratorCard)
    assert isinstance(classifier, ClassifierCard)
    return detector, generator, classifier


def load_model(folder: Path, kind: type[CardT], device: Device = Device.CPU) -> OnnxModel[CardT]:
    """The one model of a kind, in fp32; raises as :func:`load_models`."""
    card = plain_card(folder, kind)
    content = read_model_bytes(card, folder)
    return start_model(card, content, _choose_provider(device, card, content)[0])


def load_generators(folder: Path) -> list[OnnxModel[GeneratorCard]]:
    """Every generator of a folder, on the CPU, in order of the cards' names; raises as :func:`load_models`.

    A copy of another model than the one beside it is left out, and it is logged.
    """
    found = []
    for path in card_paths(folder):
        card = read_card(path)
        if not isinstance(card, GeneratorCard):
            continue
        is_copy = card.precision is not Precision.FP32
        if is_copy and (problem := stale_copy(card, plain_card(folder, GeneratorCard))):
            log.warning("%s; it is left out", problem)
            continue
        found.append(start_model(card, read_model_bytes(card, folder), CPU))
    return found


def cuda_problem(card: Card, content: bytes) -> str | None:
    """Why no session runs on CUDA here; None if one does. The proof is a session that ran, not a list of providers."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime has no CUDA provider (install onnxruntime-gpu)"
    preload = getattr(ort, "preload_dlls", None)
    ort.set_default_logger_severity(_SILENT)
    if preload is not None:
        with redirect_stdout(io.StringIO()):  # it prints which libraries it misses
            preload()
    try:
        start_model(card, content, CUDA)
    except (DeviceUnavailable, RuntimeError) as error:
        return str(error).splitlines()[0]
    return None


def _choose_card(folder: Path, kind: type[CardT], provider: str, precision: Precision) -> CardT:
    """The card of the precision asked for. ``auto`` takes an int8 copy on a CPU, an fp16 one on CUDA, if there is one.

    A copy of another model than the fp32 one beside it is refused, or with ``auto`` left alone with a warning. There
    are no copies of the detector, and none of a generator that would be no faster.
    """
    plain = plain_card(folder, kind)
    auto = precision is Precision.AUTO
    wanted = _AUTO[provider] if auto else precision
    path = copy_path(folder, kind, wanted)
    if wanted is Precision.FP32 or issubclass(kind, DetectorCard):
        return plain
    if not path.is_file():
        if auto or issubclass(kind, GeneratorCard):
            return plain
        raise ModelNotFound(
            f"there is no {wanted} copy of the {kind_name(kind)}: {path} is missing; "
            f"`wbctool models optimize --precision {wanted}` makes one where it is faster"
        )
    copy = card_of_kind(path, kind)
    read_model_bytes(plain, folder)  # so that its card's hash is its own
    problem = stale_copy(copy, plain)
    if problem is None:
        return copy
    if not auto:
        raise ModelMismatch(problem)
    log.warning("%s; using the fp32 model", problem)
    return plain


def _choose_provider(device: Device, card: Card, content: bytes) -> tuple[str, str | None]:
    if device is Device.CPU:
        return CPU, None
    problem = cuda_problem(card, content)
    if problem is None:
        return CUDA, None
    if device is Device.CUDA:
        raise DeviceUnavailable(f"--device cuda: no session runs on CUDA: {problem}. See `wbctool doctor`.")
    return CPU, f"no CUDA device ({problem}); running on the CPU"


def start_model(card: CardT, content: bytes, provider: str = CPU, threads: int = 0) -> OnnxModel[CardT]:
    """A session of the model ``content``, warmed up; threads, errors: as :func:`load_models`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _QUIET
    if card.precision is Precision.INT8 and not has_vnni():
        options.add_session_config_entry(_NO_INT8_OVERFLOW, "1")
    rows = _ROWS[provider][card.kind]
    try:
        # Without fallback: a provider that fails would be left for the CPU, with but a word on standard output.
        session = ort.InferenceSession(
            content, options, providers=[(provider, provider_options(provider, card.precision))], enable_fallback=0
        )
        model = OnnxModel(session, card, provider, rows)
        outputs = model.run(np.zeros((1, *_warm_up_shape(card)), np.uint8))
    except Exception as error:  # onnxruntime raises classes of its own making, and bare RuntimeErrors
        if provider == CUDA:
            raise DeviceUnavailable(f"{card.file} does not run on CUDA: {error}") from error
        raise ModelMismatch(f"{card.file} cannot be run: {error}") from error
    used = session.get_providers()[0]
    if used != provider:
        why = _unloadable_provider() if provider == CUDA else ""
        raise DeviceUnavailable(f"{card.file}: asked for {provider}, but the session runs on {used}{why}")
    if not _fits_card(outputs, card):
        raise ModelMismatch(f"{card.file} gives outputs of shape {[o.shape for o in outputs]}, unlike its card")
    return model


def provider_options(provider: str, precision: Precision) -> dict[str, str]:
    """onnxruntime's, for a model of that precision."""
    if provider == CPU:
        return {}
    return _CUDA_OPTIONS if precision is Precision.FP16 else _CUDA_OPTIONS | _EXACT_FP32


def _unloadable_provider() -> str:
    """What the system says of the CUDA provider's library, which onnxruntime leaves out silently; empty if nothing."""
    for library in (Path(ort.__file__).parent / "capi").glob("*onnxruntime_providers_cuda.*"):
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            return f" ({error})"
    return ""


def _fits_card(outputs: tuple[AnyArray, ...], card: Card) -> bool:
    """Whether the outputs for one warm-up input have the shape that the card promises."""
    shape = outputs[0].shape
    if isinstance(card, DetectorCard):
        side = card.long_side_px // card.stride
        return len(outputs) == 2 and shape == (1, len(card.targets), side, side) and outputs[1].shape[1] == 4
    if isinstance(card, GeneratorCard):
        return shape == (1, card.scale * card.min_px, card.scale * card.min_px, 3)
    return isinstance(card, ClassifierCard) and shape == (1, len(card.classes))


def _warm_up_shape(card: Card) -> tuple[int, int, int]:
    if isinstance(card, DetectorCard):
        return card.long_side_px, card.long_side_px, 3
    if isinstance(card, GeneratorCard):
        return card.min_px, card.min_px, 3
    assert isinstance(card, ClassifierCard)
    return card.input_px, card.input_px, 3
