"""The models of a run: which card each kind has for a precision and a provider, and their sessions.

A model is loaded only if its bytes are the ones its card names (wbctool.inference.model_card).
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from wbctool.enums import Device, Precision
from wbctool.errors import DeviceUnavailable, ModelMismatch, ModelNotFound
from wbctool.inference.classifier_head import DenseHead, read_dense_head
from wbctool.inference.model_card import (
    Card,
    CardT,
    ClassifierCard,
    DetectorCard,
    GeneratorCard,
    card_paths,
    kind_name,
    load_fp32_card,
    quantized_card_path,
    read_card,
    read_card_of_kind,
    read_model_bytes,
    staleness_reason,
)
from wbctool.inference.session import CPU, CUDA, OnnxModel, create_session, cuda_unavailable_reason

log = logging.getLogger(__name__)

_AUTO_PRECISION = {CPU: Precision.INT8, CUDA: Precision.FP16}  # what is fastest there

Cards = tuple[DetectorCard, GeneratorCard, ClassifierCard]


@dataclass(frozen=True, slots=True)
class Models:
    """The three models of a run. device_message: one line on what ``auto`` fell back to; None where it did not.

    head: the classifier's dense layers; None where its graph is not built as training builds it.
    """

    detector: OnnxModel[DetectorCard]
    generator: OnnxModel[GeneratorCard]
    classifier: OnnxModel[ClassifierCard]
    device_message: str | None = None
    head: DenseHead | None = None

    @property
    def provider(self) -> str:
        """The provider the models really run on."""
        return self.classifier.provider

    @property
    def batch_sizes(self) -> dict[str, int]:
        """The rows of each model's batches, by the model file's name; fewer than at first once memory was full."""
        return {m.card.file: m.batch_size for m in (self.detector, self.generator, self.classifier)}


def load_models(folder: Path, device: Device, precision: Precision, threads: int = 0) -> Models:
    """Load, start and warm up the three models.

    threads: that one call takes on a CPU; 0 for all cores, 1 where several calls are made at a time.

    Raises ModelNotFound, ModelMismatch, or DeviceUnavailable where CUDA is demanded and no session runs there.
    """
    fp32_card = load_fp32_card(folder, DetectorCard)
    provider, device_message = _choose_provider(device, fp32_card, read_model_bytes(fp32_card, folder))

    def load(kind: type[CardT]) -> tuple[OnnxModel[CardT], bytes]:
        card = _choose_card(folder, kind, provider, precision)
        content = read_model_bytes(card, folder)
        return create_session(card, content, provider, threads), content

    with ThreadPoolExecutor(thread_name_prefix="load") as executor:
        detector, generator = executor.submit(load, DetectorCard), executor.submit(load, GeneratorCard)
        classifier, content = load(ClassifierCard)
    return Models(detector.result()[0], generator.result()[0], classifier, device_message, read_dense_head(content))


def select_cards(folder: Path, provider: str, precision: Precision) -> Cards:
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
    card = load_fp32_card(folder, kind)
    content = read_model_bytes(card, folder)
    return create_session(card, content, _choose_provider(device, card, content)[0])


def load_generators(folder: Path) -> list[OnnxModel[GeneratorCard]]:
    """Every generator of a folder, on the CPU, in order of the cards' names; raises as :func:`load_models`.

    A copy of another model than the one beside it is left out, and it is logged.
    """
    generators = []
    for path in card_paths(folder):
        card = read_card(path)
        if not isinstance(card, GeneratorCard):
            continue
        is_quantized = card.precision is not Precision.FP32
        if is_quantized and (problem := staleness_reason(card, load_fp32_card(folder, GeneratorCard))):
            log.warning("%s; it is left out", problem)
            continue
        generators.append(create_session(card, read_model_bytes(card, folder), CPU))
    return generators


def _choose_card(folder: Path, kind: type[CardT], provider: str, precision: Precision) -> CardT:
    """The card of the precision asked for. ``is_auto`` takes an int8 copy on a CPU, an fp16 one on CUDA, if there is one.

    A copy of another model than the fp32 one beside it is refused, or with ``is_auto`` left alone with a warning. There
    are no copies of the detector, and none of a generator that would be no faster.
    """
    fp32_card = load_fp32_card(folder, kind)
    is_auto = precision is Precision.AUTO
    chosen = _AUTO_PRECISION[provider] if is_auto else precision
    path = quantized_card_path(folder, kind, chosen)
    if chosen is Precision.FP32 or issubclass(kind, DetectorCard):
        return fp32_card
    if not path.is_file():
        if is_auto or issubclass(kind, GeneratorCard):
            return fp32_card
        raise ModelNotFound(
            f"there is no {chosen} copy of the {kind_name(kind)}: {path} is missing; "
            f"`wbctool models optimize --precision {chosen}` makes one where it is faster"
        )
    quantized = read_card_of_kind(path, kind)
    read_model_bytes(fp32_card, folder)  # so that its card's hash is its own
    problem = staleness_reason(quantized, fp32_card)
    if problem is None:
        return quantized
    if not is_auto:
        raise ModelMismatch(problem)
    log.warning("%s; using the fp32 model", problem)
    return fp32_card


def _choose_provider(device: Device, card: Card, content: bytes) -> tuple[str, str | None]:
    if device is Device.CPU:
        return CPU, None
    problem = cuda_unavailable_reason(card, content)
    if problem is None:
        return CUDA, None
    if device is Device.CUDA:
        raise DeviceUnavailable(f"--device cuda: no session runs on CUDA: {problem}. See `wbctool doctor`.")
    return CPU, f"no CUDA device ({problem}); running on the CPU"
