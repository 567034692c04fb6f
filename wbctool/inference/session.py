"""Trained models as sessions that run them, and what a provider is asked for.

The only module that runs onnxruntime's sessions; its quantiser is wbctool.quantization.int8's.
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from threading import Lock
from typing import Any, Generic

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from wbctool.enums import Precision
from wbctool.errors import DeviceUnavailable, ModelMismatch
from wbctool.hardware import has_vnni
from wbctool.inference.model_card import Card, CardT, ClassifierCard, DetectorCard, GeneratorCard

log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
# Rows of every batch a session sees. A fixed shape makes a cell's result independent of the cells beside it; few rows
# on a CPU, where a row more costs its full time, many on a GPU, where it costs nearly nothing. Fields come one by one;
# the generator's crops come in many sizes, so that few share a batch.
_BATCH_SIZES = {
    CPU: {"detector": 1, "generator": 1, "classifier": 1},
    CUDA: {"detector": 1, "generator": 8, "classifier": 64},
}
# On CUDA no algorithm is chosen by timing it, so that the same input gives the same bytes: HEURISTIC asks cuDNN which.
# DEFAULT is not it: since onnxruntime 1.20 that takes those of last resort, many times slower (its issue 22705).
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
_NO_TF32 = {"use_tf32": "0"}  # not with fp16: it would take the tensor cores from that too
# Makes int8 weights unsigned, so that sums of products do not overflow 16 bits. Where the processor adds in 32 bits
# (wbctool.hardware) it would cost more than half of int8's speed for nothing.
_NO_INT8_OVERFLOW = "session.x64quantprecision"
_OUT_OF_MEMORY = re.compile("out of memory|failed to allocate memory|alloc(ation)?_failed", re.IGNORECASE)
_LOG_FATAL = 4
_LOG_ERROR = 3  # onnxruntime warns of every missing GPU on standard error; what matters of that is said by us

AnyArray = NDArray[Any]


class OnnxModel(Generic[CardT]):
    """A model ready to run.

    provider: the provider of the warmed-up session. batch_size: the fixed number of rows each call of the session has.
    """

    def __init__(self, session: ort.InferenceSession, card: CardT, provider: str, batch_size: int) -> None:
        self._session = session
        self.card: CardT = card
        self.provider, self.batch_size = provider, batch_size
        self._input_name = session.get_inputs()[0].name
        # Calls on a GPU share its memory and would only wait there for each other.
        self._gpu_lock: AbstractContextManager[object] = Lock() if provider == CUDA else nullcontext()

    @property
    def precision(self) -> Precision:
        """The arithmetic of this graph, as its card says."""
        return self.card.precision

    def run(self, batch: AnyArray) -> tuple[AnyArray, ...]:
        """batch: (N, H, W, 3) uint8 RGB, N any number -> the graph's outputs, N rows each.

        The session sees ``rows`` rows at a time, the last batch filled up with zeros, so that what a row gives does not
        depend on N. On a GPU one call is made at a time.
        """
        with self._gpu_lock:
            return self._run(batch)

    def _run(self, batch: AnyArray) -> tuple[AnyArray, ...]:
        outputs_by_batch: list[list[AnyArray]] = []
        start = 0
        while start < len(batch):
            chunk: AnyArray = batch[start : start + self.batch_size]
            n_padding = self.batch_size - len(chunk)
            padded = (
                np.concatenate([chunk, np.zeros((n_padding, *chunk.shape[1:]), chunk.dtype)]) if n_padding else chunk
            )
            try:
                outputs = self._session.run(None, {self._input_name: padded})
            except Exception as error:  # onnxruntime's own classes do not tell memory from the rest
                self._halve_batch_size(error)
                continue
            outputs_by_batch.append([output[: len(chunk)] for output in outputs])
            start += len(chunk)
        return tuple(np.concatenate(column) for column in zip(*outputs_by_batch, strict=True))

    def _halve_batch_size(self, error: Exception) -> None:
        """Raises ``error`` again, unless it says that the device's memory is full and fewer rows may fit.

        Rows of another shape may differ in their last digits: it is logged, and ``Models.rows`` goes into run.json.
        """
        if self.batch_size == 1 or self.provider == CPU or not _OUT_OF_MEMORY.search(str(error)):
            raise error
        self.batch_size //= 2
        log.warning("%s: out of device memory; continuing with %d rows at a time", self.card.file, self.batch_size)


def cuda_unavailable_reason(card: Card, content: bytes) -> str | None:
    """Why no session runs on CUDA here; None if one does. The proof is a session that ran, not a list of providers."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime has no CUDA provider (install onnxruntime-gpu)"
    preload = getattr(ort, "preload_dlls", None)
    ort.set_default_logger_severity(_LOG_FATAL)
    if preload is not None:
        with redirect_stdout(io.StringIO()):  # it prints which libraries it misses
            preload()
    try:
        create_session(card, content, CUDA)
    except (DeviceUnavailable, RuntimeError) as error:
        return str(error).splitlines()[0]
    return None


def create_session(card: CardT, content: bytes, provider: str = CPU, threads: int = 0) -> OnnxModel[CardT]:
    """A session of the model ``content``, warmed up; threads, errors: as :func:`load_models`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _LOG_ERROR
    if card.precision is Precision.INT8 and not has_vnni():
        options.add_session_config_entry(_NO_INT8_OVERFLOW, "1")
    batch_size = _BATCH_SIZES[provider][card.kind]
    try:
        # Without fallback: a provider that fails would be left for the CPU, with but a word on standard output.
        session = ort.InferenceSession(
            content, options, providers=[(provider, provider_options(provider, card.precision))], enable_fallback=0
        )
        model = OnnxModel(session, card, provider, batch_size)
        outputs = model.run(np.zeros((1, *_warm_up_shape(card)), np.uint8))
    except Exception as error:  # onnxruntime raises classes of its own making, and bare RuntimeErrors
        if provider == CUDA:
            raise DeviceUnavailable(f"{card.file} does not run on CUDA: {error}") from error
        raise ModelMismatch(f"{card.file} cannot be run: {error}") from error
    actual_provider = session.get_providers()[0]
    if actual_provider != provider:
        if provider == CUDA and (cause := _cuda_load_error()):
            raise DeviceUnavailable(f"onnxruntime cannot load its CUDA provider: {cause}")
        raise DeviceUnavailable(f"{card.file}: asked for {provider}, but the session runs on {actual_provider}")
    if not _matches_card(outputs, card):
        raise ModelMismatch(f"{card.file} gives outputs of shape {[o.shape for o in outputs]}, unlike its card")
    return model


def provider_options(provider: str, precision: Precision) -> dict[str, str]:
    """onnxruntime's, for a model of that precision."""
    if provider == CPU:
        return {}
    return _CUDA_OPTIONS if precision is Precision.FP16 else _CUDA_OPTIONS | _NO_TF32


def _cuda_load_error() -> str:
    """What the system says of the CUDA provider's library, which onnxruntime leaves out silently; empty if nothing."""
    for library in (Path(ort.__file__).parent / "capi").glob("*onnxruntime_providers_cuda.*"):
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            return str(error)
    return ""


def _matches_card(outputs: tuple[AnyArray, ...], card: Card) -> bool:
    """Whether the outputs for one warm-up input have the shape that the card promises."""
    shape = outputs[0].shape
    if isinstance(card, DetectorCard):
        side = card.input_long_side_px // card.stride
        return len(outputs) == 2 and shape == (1, len(card.classes), side, side) and outputs[1].shape[1] == 4
    if isinstance(card, GeneratorCard):
        return shape == (1, card.scale * card.min_px, card.scale * card.min_px, 3)
    return isinstance(card, ClassifierCard) and shape == (1, len(card.classes))


def _warm_up_shape(card: Card) -> tuple[int, int, int]:
    if isinstance(card, DetectorCard):
        return card.input_long_side_px, card.input_long_side_px, 3
    if isinstance(card, GeneratorCard):
        return card.min_px, card.min_px, 3
    assert isinstance(card, ClassifierCard)
    return card.input_px, card.input_px, 3
