"""Loading of the models of a run, in the precision that fits the device.

A model is loaded only if its bytes are those that its card names (wbctool.inference.model_card).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wbctool.enums import Device, Precision, Readers
from wbctool.errors import DeviceUnavailable, ModelMismatch, ModelNotFound
from wbctool.hardware import has_nvidia_gpu
from wbctool.inference.color_range import ColorRange
from wbctool.inference.familiarity_rule import FamiliarityRule, select_rule
from wbctool.inference.model_card import (
    Card,
    CardT,
    CellClassifierCard,
    ClassifierCard,
    CompactCard,
    DetectorCard,
    GeneratorCard,
    kind_name,
    load_fp32_card,
    quantized_card_path,
    read_card,
    read_card_of_kind,
)
from wbctool.inference.model_folder import card_paths, read_model_bytes, staleness_reason
from wbctool.inference.session import CPU, CUDA, OnnxModel, create_session, cuda_unavailable_reason

log = logging.getLogger(__name__)

_AUTO_PRECISION = {CPU: Precision.INT8, CUDA: Precision.FP16}  # the fastest one on each provider


@dataclass(frozen=True, slots=True)
class Cards:
    """The cards of the models of a run.

    Attributes:
        detector, generator: Their cards.
        classifier: The card of the first reader, or of the only one.
        second: The card of the second reader; None if there is one reader.
    """

    detector: DetectorCard
    generator: GeneratorCard
    classifier: CellClassifierCard
    second: CompactCard | None = None

    @property
    def readers(self) -> Readers:
        """Which readers they are."""
        if self.second is not None:
            return Readers.BOTH
        return Readers.COMPACT if isinstance(self.classifier, CompactCard) else Readers.VGG19

    @property
    def familiarity_rule(self) -> FamiliarityRule | None:
        """When a slide is familiar, by the first reader that measures it; None if none does."""
        cards = [self.classifier] if self.second is None else [self.classifier, self.second]
        return select_rule([card.familiarity for card in cards])

    @property
    def stain_reference(self) -> tuple[ColorRange, ...]:
        """The colors of the detector's training, and of the laboratory that the readers are adapted to."""
        rule = self.familiarity_rule
        own = rule.own_laboratory if rule is not None else None
        return self.detector.stain_reference + ((own.colors,) if own is not None and own.colors is not None else ())

    def __iter__(self) -> Iterator[Card]:
        """Iterate over the cards."""
        yield from (self.detector, self.generator, self.classifier)
        if self.second is not None:
            yield self.second


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a run.

    Attributes:
        detector: Finds the cells of a field.
        generator: Super-resolves crops.
        classifier: The first reader, or the only one: classifies preprocessed crops.
        second: The second reader, which classifies them too; None if there is one reader.
        device_message: One line about why ``auto`` does not use the GPU that there is; None without such a GPU.
    """

    detector: OnnxModel[DetectorCard]
    generator: OnnxModel[GeneratorCard]
    classifier: OnnxModel[CellClassifierCard]
    second: OnnxModel[CompactCard] | None = None
    device_message: str | None = None

    @property
    def cards(self) -> Cards:
        """The models' cards."""
        second = None if self.second is None else self.second.card
        return Cards(self.detector.card, self.generator.card, self.classifier.card, second)

    @property
    def classifiers(self) -> tuple[OnnxModel[Any], ...]:
        """The readers, the first one first."""
        return (self.classifier,) if self.second is None else (self.classifier, self.second)

    @property
    def provider(self) -> str:
        """The execution provider that the models really run on."""
        return self.classifier.provider

    @property
    def batch_sizes(self) -> dict[str, int]:
        """The current number of rows of each model's batches, by file name; it falls if a GPU's memory is full."""
        sizes = {model.card.file: model.batch_size for model in (self.detector, self.generator, self.classifier)}
        return sizes if self.second is None else sizes | {self.second.card.file: self.second.batch_size}


def load_models(
    folder: Path, device: Device, precision: Precision, readers: Readers = Readers.BOTH, threads: int = 0
) -> Models:
    """Load, start and warm up the models.

    Args:
        folder: The folder of models.
        device: The device.
        precision: The precision of the generator and the classifiers.
        readers: Which classifiers to load.
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

    def load(kind: type[CardT]) -> OnnxModel[CardT]:
        card = _choose_card(folder, kind, provider, precision)
        return create_session(card, read_model_bytes(card, folder), provider, threads)

    _check_readers_exist(folder, readers)
    with ThreadPoolExecutor(thread_name_prefix="load") as executor:
        detector, generator = executor.submit(load, DetectorCard), executor.submit(load, GeneratorCard)
        second = executor.submit(load, CompactCard) if readers is Readers.BOTH else None
        classifier = load(CompactCard if readers is Readers.COMPACT else ClassifierCard)
    models = Models(
        detector=detector.result(),
        generator=generator.result(),
        classifier=classifier,
        second=None if second is None else second.result(),
        device_message=device_message,
    )
    _check_readers_agree(models.cards)
    return models


def select_cards(folder: Path, provider: str, precision: Precision, readers: Readers = Readers.BOTH) -> Cards:
    """Choose the cards of the models that a machine with that provider would load, and check their files.

    No session is started: the coordinator of a cluster may have no GPU.

    Args:
        folder: The folder of models.
        provider: The execution provider.
        precision: The precision of the generator and the classifiers.
        readers: Which classifiers it would load.

    Returns:
        The cards.

    Raises:
        ModelNotFound: A model or a card is missing.
        ModelMismatch: A model is not the one that its card describes.
    """
    _check_readers_exist(folder, readers)
    cards = Cards(
        detector=_choose_card(folder, DetectorCard, provider, precision),
        generator=_choose_card(folder, GeneratorCard, provider, precision),
        classifier=_choose_card(
            folder, CompactCard if readers is Readers.COMPACT else ClassifierCard, provider, precision
        ),
        second=_choose_card(folder, CompactCard, provider, precision) if readers is Readers.BOTH else None,
    )
    for card in cards:
        read_model_bytes(card, folder)
    _check_readers_agree(cards)
    return cards


def _check_readers_exist(folder: Path, readers: Readers) -> None:
    """Raise ModelNotFound, with the way out, if a folder has the first reader only and the run needs both."""
    path = folder / f"{kind_name(CompactCard)}.json"
    if readers is Readers.BOTH and not path.is_file() and (folder / f"{kind_name(ClassifierCard)}.json").is_file():
        raise ModelNotFound(
            f"the model card of the second reader, {path}, is missing: train it with `wbctool train --stage compact`, "
            "or run with --readers vgg19"
        )


def _check_readers_agree(cards: Cards) -> None:
    """Raise ModelMismatch if the two readers do not take the same crops or know the same classes."""
    first, second = cards.classifier, cards.second
    if second is None:
        return
    for name in ("classes", "input_px", "crop_margin"):
        if getattr(first, name) != getattr(second, name):
            raise ModelMismatch(
                f"{first.file} and {second.file} differ in {name}: two readers need the same; use one with --readers"
            )


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
        # A model that would be no faster has no copy.
        if is_auto or issubclass(kind, GeneratorCard | CompactCard):
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
    # Without a GPU, the attempt to use CUDA would load libraries of 200 MB for nothing.
    if device is Device.CPU or (device is Device.AUTO and not has_nvidia_gpu()):
        return CPU, None
    problem = cuda_unavailable_reason(card, content)
    if problem is None:
        return CUDA, None
    if device is Device.CUDA:
        raise DeviceUnavailable(f"--device cuda: no session runs on CUDA: {problem}. See `wbctool doctor`.")
    return CPU, f"no CUDA device ({problem}); running on the CPU"
