"""Loading of the three models of a run, in the precision that fits the device.

A model is loaded only if its bytes are those that its card names (wbctool.inference.model_card).
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from wbctool.enums import Device, Precision
from wbctool.errors import DeviceUnavailable, ModelMismatch, ModelNotFound
from wbctool.hardware import has_nvidia_gpu
from wbctool.inference.classifier_head import DenseHead, read_dense_head
from wbctool.inference.model_card import (
    Card,
    CardT,
    ClassifierCard,
    DetectorCard,
    GeneratorCard,
    kind_name,
    load_fp32_card,
    quantized_card_path,
    read_card,
    read_card_of_kind,
    read_model_bytes,
)
from wbctool.inference.model_folder import card_paths, staleness_reason
from wbctool.inference.session import CPU, CUDA, LAST_MAP, OnnxModel, create_session, cuda_unavailable_reason

log = logging.getLogger(__name__)

_AUTO_PRECISION = {CPU: Precision.INT8, CUDA: Precision.FP16}  # the fastest one on each provider

Cards = tuple[DetectorCard, GeneratorCard, ClassifierCard]


@dataclass(frozen=True, slots=True)
class Models:
    """The three models of a run.

    Attributes:
        detector: Finds the cells of a field.
        generator: Super-resolves crops.
        classifier: Classifies preprocessed crops.
        device_message: One line about why ``auto`` does not use the GPU that there is; None without such a GPU.
        head: The classifier's dense layers, for Grad-CAM; None if its graph is not built as training exports it.
    """

    detector: OnnxModel[DetectorCard]
    generator: OnnxModel[GeneratorCard]
    classifier: OnnxModel[ClassifierCard]
    device_message: str | None = None
    head: DenseHead | None = None

    @property
    def provider(self) -> str:
        """The execution provider that the models really run on."""
        return self.classifier.provider

    @property
    def batch_sizes(self) -> dict[str, int]:
        """The current number of rows of each model's batches, by file name; it falls if a GPU's memory is full."""
        return {m.card.file: m.batch_size for m in (self.detector, self.generator, self.classifier)}


def load_models(folder: Path, device: Device, precision: Precision, threads: int = 0) -> Models:
    """Load, start and warm up the three models.

    Args:
        folder: The folder of models.
        device: The device.
        precision: The precision of the generator and the classifier.
        threads: The number of threads of one call on a CPU; 0 for all cores, 1 if several threads call at a time.

    Returns:
        The models.

    Raises:
        ModelNotFound: A model or a card is missing.
        ModelMismatch: A model is not the one that its card describes.
        DeviceUnavailable: CUDA is demanded, and no session runs there.
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
    head = read_dense_head(content) if LAST_MAP in classifier.output_names else None
    return Models(detector.result()[0], generator.result()[0], classifier, device_message, head)


def select_cards(folder: Path, provider: str, precision: Precision) -> Cards:
    """Choose the cards of the models that a machine with that provider would load, and check their files.

    No session is started: the coordinator of a cluster may have no GPU.

    Args:
        folder: The folder of models.
        provider: The execution provider.
        precision: The precision of the generator and the classifier.

    Returns:
        The cards of the detector, the generator and the classifier.

    Raises:
        ModelNotFound: A model or a card is missing.
        ModelMismatch: A model is not the one that its card describes.
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
    """Load the fp32 model of one kind; raises as :func:`load_models`."""
    card = load_fp32_card(folder, kind)
    content = read_model_bytes(card, folder)
    return create_session(card, content, _choose_provider(device, card, content)[0])


def load_generators(folder: Path) -> list[OnnxModel[GeneratorCard]]:
    """Load every generator of a folder on the CPU, in order of the cards' names.

    A copy that was not made from the fp32 generator beside it is left out with a warning.

    Args:
        folder: The folder of models.

    Returns:
        The generators.

    Raises:
        ModelNotFound: A model or a card is missing.
        ModelMismatch: A model is not the one that its card describes.
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
    """Choose the card of a kind; with ``auto``, a missing or stale copy falls back to the fp32 model."""
    fp32_card = load_fp32_card(folder, kind)
    is_auto = precision is Precision.AUTO
    chosen = _AUTO_PRECISION[provider] if is_auto else precision
    path = quantized_card_path(folder, kind, chosen)
    if chosen is Precision.FP32 or issubclass(kind, DetectorCard):  # the detector has no copies
        return fp32_card
    if not path.is_file():
        if is_auto or issubclass(kind, GeneratorCard):  # a generator that would be no faster has no copy
            return fp32_card
        raise ModelNotFound(
            f"there is no {chosen} copy of the {kind_name(kind)}: {path} is missing; "
            f"`wbctool models optimize --precision {chosen}` makes one where it is faster"
        )
    quantized = read_card_of_kind(path, kind)
    read_model_bytes(fp32_card, folder)  # checks the hash that the copy's card names as its source
    problem = staleness_reason(quantized, fp32_card)
    if problem is None:
        return quantized
    if not is_auto:
        raise ModelMismatch(problem)
    log.warning("%s; using the fp32 model", problem)
    return fp32_card


def _choose_provider(device: Device, card: Card, content: bytes) -> tuple[str, str | None]:
    """Choose the provider of a device; with it comes a message if ``auto`` does not use the GPU that there is."""
    if device is Device.CPU:
        return CPU, None
    problem = cuda_unavailable_reason(card, content)
    if problem is None:
        return CUDA, None
    if device is Device.CUDA:
        raise DeviceUnavailable(f"--device cuda: no session runs on CUDA: {problem}. See `wbctool doctor`.")
    if not has_nvidia_gpu():  # a plain PC lacks nothing; `wbctool doctor` says what a GPU would need
        return CPU, None
    return CPU, f"no CUDA device ({problem}); running on the CPU"
