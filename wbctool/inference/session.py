"""Trained models as onnxruntime sessions.

This is the only module that runs sessions of onnxruntime.
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
from collections.abc import Mapping, Sequence
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
from wbctool.inference.model_card import Card, CardT, CellClassifierCard, CompactCard, DetectorCard, GeneratorCard

log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
# The names of the graphs' outputs, as training exports them. They are float32 unless another type is named.
HEAT = "heat"  # (N, classes, h, w), the probability of a cell's center, in [0, 1]
SIDES = "sides"  # (N, 4, h, w), the distances to a cell's left, top, right and bottom edge, in pixels of the input
SUPER_RESOLVED = "sr"  # (N, scale * H, scale * W, 3) uint8 RGB
LOGITS = "logits"  # (N, classes)
FEATURES = "features"  # (N, D), the input of the last dense layer
CAM = "cam"  # (N, classes, h, w) uint8, a Grad-CAM map of each class, 255 at its strongest point; some models lack it
SUBTYPES = "subtypes"  # (N, subtypes), the logits of the finer kinds; the compact reader's alone
_REQUIRED_OUTPUTS = {
    "detector": (HEAT, SIDES),
    "generator": (SUPER_RESOLVED,),
    "classifier": (LOGITS,),
    "compact": (LOGITS,),
}
# The number of rows of every batch. It is fixed, so that a cell's result does not depend on the cells beside it. It is
# small on a CPU, where the time grows with the rows, and large on a GPU, where it hardly does. The detector gets one
# field at a time; the generator's crops have many sizes, so few share a batch.
_BATCH_SIZES = {
    CPU: {"detector": 1, "generator": 1, "classifier": 1, "compact": 1},
    CUDA: {"detector": 1, "generator": 8, "classifier": 64, "compact": 64},
}
# On CUDA no algorithm is chosen by timing, so that the same input gives the same bytes: with HEURISTIC cuDNN chooses.
# With DEFAULT onnxruntime has taken algorithms that are many times slower since 1.20 (its issue 22705).
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
_NO_TF32 = {"use_tf32": "0"}  # not for fp16, which would lose the tensor cores
# Makes int8 weights unsigned, so that sums of products do not overflow 16 bits. A processor with VNNI adds in 32 bits;
# there the option would cost more than half of int8's speed for nothing.
_NO_INT8_OVERFLOW = "session.x64quantprecision"
_OUT_OF_MEMORY = re.compile("out of memory|failed to allocate memory|alloc(ation)?_failed", re.IGNORECASE)
# onnxruntime keeps the memory of its largest run. That of a large input is given back, as the field is large, too.
_LARGE_INPUT = 3_000_000  # samples: a megapixel
_FREE_MEMORY = ort.RunOptions()
_FREE_MEMORY.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
_LOG_FATAL = 4
_LOG_ERROR = 3  # onnxruntime warns of every missing GPU on standard error; device_message says what matters of it

AnyArray = NDArray[Any]


class OnnxModel(Generic[CardT]):
    """A model with its session, ready to run.

    Attributes:
        card: The model's card.
        provider: The execution provider of onnxruntime.
        batch_size: The fixed number of rows of every call of the session.
        output_names: The names of the graph's outputs, in the graph's order.
    """

    def __init__(self, session: ort.InferenceSession, card: CardT, provider: str, batch_size: int) -> None:
        self._session = session
        self.card: CardT = card
        self.provider, self.batch_size = provider, batch_size
        self.output_names = tuple(output.name for output in session.get_outputs())
        self._input_name = session.get_inputs()[0].name
        # Calls on a GPU share its memory, and there would only wait for each other.
        self._gpu_lock: AbstractContextManager[object] = Lock() if provider == CUDA else nullcontext()

    @property
    def precision(self) -> Precision:
        """The arithmetic of the graph, according to its card."""
        return self.card.precision

    def run(self, batch: AnyArray, *outputs: str) -> tuple[AnyArray, ...]:
        """Run the graph on any number of images, at least one.

        The session gets ``batch_size`` rows at a time, and the last batch is filled up with zeros, so that a row's
        result does not depend on N. On a GPU one thread calls the session at a time.

        Args:
            batch: (N, H, W, 3) uint8 RGB.
            outputs: The names of the outputs to return; others are not copied out of the session. Default: all
                outputs, in the graph's order.

        Returns:
            One array of N rows per output.

        Raises:
            ValueError: There are no images.
            Exception: What onnxruntime raises. A GPU that is out of memory halves ``batch_size`` first.
        """
        if not len(batch):
            raise ValueError("no images")
        with self._gpu_lock:
            return self._run(batch, outputs or self.output_names)

    def _run(self, batch: AnyArray, output_names: Sequence[str]) -> tuple[AnyArray, ...]:
        """Run the graph batch by batch; the caller holds the lock."""
        outputs_by_batch: list[list[AnyArray]] = []
        start = 0
        while start < len(batch):
            chunk: AnyArray = batch[start : start + self.batch_size]
            n_padding = self.batch_size - len(chunk)
            padded = (
                np.concatenate([chunk, np.zeros((n_padding, *chunk.shape[1:]), chunk.dtype)]) if n_padding else chunk
            )
            try:
                options = _FREE_MEMORY if self.provider == CPU and padded.size > _LARGE_INPUT else None
                outputs = self._session.run(output_names, {self._input_name: padded}, options)
            except Exception as error:  # onnxruntime has no class of its own for memory
                self._halve_batch_size(error)
                continue
            outputs_by_batch.append([output[: len(chunk)] for output in outputs])
            start += len(chunk)
        return tuple(np.concatenate(column) for column in zip(*outputs_by_batch, strict=True))

    def _halve_batch_size(self, error: Exception) -> None:
        """Halve the batch if the device's memory is full, and log it; raise any other error again."""
        # The last digits may depend on the number of rows, so run.json records it (``Models.batch_sizes``).
        if self.batch_size == 1 or self.provider == CPU or not _OUT_OF_MEMORY.search(str(error)):
            raise error
        self.batch_size //= 2
        log.warning("%s: out of device memory; continuing with %d rows at a time", self.card.file, self.batch_size)


def cuda_unavailable_reason(card: Card, content: bytes) -> str | None:
    """Say why no session runs on CUDA here.

    A session is started and run, because the list of providers alone proves nothing.

    Args:
        card: The card of the model to try.
        content: The content of its ONNX file.

    Returns:
        The reason in one line; None if a session runs.
    """
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime has no CUDA provider (install onnxruntime-gpu)"
    preload = getattr(ort, "preload_dlls", None)
    ort.set_default_logger_severity(_LOG_FATAL)
    if preload is not None:
        with redirect_stdout(io.StringIO()):  # it prints which libraries are missing
            preload()
    try:
        create_session(card, content, CUDA)
    except (DeviceUnavailable, RuntimeError) as error:
        return str(error).splitlines()[0]
    return None


def create_session(card: CardT, content: bytes, provider: str = CPU, threads: int = 0) -> OnnxModel[CardT]:
    """Start a session of a model, warm it up and compare its outputs with the card.

    Args:
        card: The model's card.
        content: The content of its ONNX file.
        provider: The execution provider.
        threads: The number of threads of one call on a CPU; 0 for all cores.

    Returns:
        The model, ready to run.

    Raises:
        ModelMismatch: The model cannot be run, or its outputs do not fit the card.
        DeviceUnavailable: The session does not run on the provider.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _LOG_ERROR
    # With a pattern onnxruntime keeps one block for each size of input, and fields and small crops have many sizes.
    options.enable_mem_pattern = isinstance(card, CellClassifierCard)
    if card.precision is Precision.INT8 and not has_vnni():
        options.add_session_config_entry(_NO_INT8_OVERFLOW, "1")
    batch_size = _BATCH_SIZES[provider][card.kind]
    try:
        # With fallback, onnxruntime would replace a provider that fails by the CPU and only print a line about it.
        session = ort.InferenceSession(
            content, options, providers=[(provider, provider_options(provider, card.precision))], enable_fallback=0
        )
        model = OnnxModel(session, card, provider, batch_size)
        arrays = model.run(np.zeros((1, *_warm_up_shape(card)), np.uint8))
    except Exception as error:  # onnxruntime raises classes of its own, and plain RuntimeErrors
        if provider == CUDA:
            raise DeviceUnavailable(f"{card.file} does not run on CUDA: {error}") from error
        raise ModelMismatch(f"{card.file} cannot be run: {error}") from error
    actual_provider = session.get_providers()[0]
    if actual_provider != provider:
        if provider == CUDA and (cause := _cuda_load_error()):
            raise DeviceUnavailable(f"onnxruntime cannot load its CUDA provider: {cause}")
        raise DeviceUnavailable(f"{card.file}: asked for {provider}, but the session runs on {actual_provider}")
    shapes = {name: array.shape for name, array in zip(model.output_names, arrays, strict=True)}
    if not _matches_card(shapes, card):
        raise ModelMismatch(f"{card.file} gives outputs of shape {shapes}, unlike its card")
    return model


def provider_options(provider: str, precision: Precision) -> dict[str, str]:
    """Return onnxruntime's options of a provider, for a model of that precision."""
    if provider == CPU:
        return {}
    return _CUDA_OPTIONS if precision is Precision.FP16 else _CUDA_OPTIONS | _NO_TF32


def _cuda_load_error() -> str:
    """Return why the CUDA provider's library cannot be loaded, which onnxruntime does not say; empty if it can."""
    for library in (Path(ort.__file__).parent / "capi").glob("*onnxruntime_providers_cuda.*"):
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            return str(error)
    return ""


def _matches_card(shapes: Mapping[str, tuple[int, ...]], card: Card) -> bool:
    """Return whether the outputs for one warm-up image have the names and shapes that the card promises."""
    if not shapes.keys() >= set(_REQUIRED_OUTPUTS[card.kind]):
        return False
    if isinstance(card, DetectorCard):
        side = card.input_long_side_px // card.stride
        return shapes[HEAT] == (1, len(card.classes), side, side) and shapes[SIDES] == (1, 4, side, side)
    if isinstance(card, GeneratorCard):
        return shapes[SUPER_RESOLVED] == (1, card.scale * card.min_px, card.scale * card.min_px, 3)
    assert isinstance(card, CellClassifierCard)
    if isinstance(card, CompactCard) and card.subtypes and shapes.get(SUBTYPES) != (1, len(card.subtypes)):
        return False
    if card.familiarity is not None and shapes.get(FEATURES) != (1, card.familiarity.space.features):
        return False
    n_classes = len(card.classes)
    has_fitting_cam = CAM not in shapes or shapes[CAM][:2] == (1, n_classes)
    return has_fitting_cam and shapes[LOGITS] == (1, n_classes + len(card.unknown_kinds))


def _warm_up_shape(card: Card) -> tuple[int, int, int]:
    """Return height, width and channels of the image that a session is warmed up with."""
    if isinstance(card, DetectorCard):
        return card.input_long_side_px, card.input_long_side_px, 3
    if isinstance(card, GeneratorCard):
        return card.min_px, card.min_px, 3
    assert isinstance(card, CellClassifierCard)
    return card.input_px, card.input_px, 3
