"""`python -m benchmarks.gpu`: what one GPU is good for, within eight minutes.

Runs the tests marked ``gpu``, times both classifiers in fp16 on CUDA in batches of 64 to 256, called plainly and with
IO binding, and trains VGG19 and SRGAN for a minute each on arrays that are ready in memory. Prints a table; without a
GPU each row says why it is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import lightning as L
import numpy as np
import onnxruntime as ort
import torch
from torch.utils.data import DataLoader
from wbctool_training.fit import default_precision
from wbctool_training.lightning_modules.classifier import ClassifierModule
from wbctool_training.lightning_modules.srgan import SrganModule
from wbctool_training.models.srgan import SCALE, Discriminator, Generator
from wbctool_training.recipe import Recipe
from wbctool_training.recipe_files import load_recipe

from wbctool.enums import Precision
from wbctool.inference.model_card import (
    CellClassifierCard,
    ClassifierCard,
    CompactCard,
    default_models_dir,
    load_fp32_card,
)
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.session import CPU, CUDA, LOGITS, cuda_unavailable_reason, provider_options
from wbctool.quantization.fp16 import convert_to_fp16

_LIMIT_S = 480
_TESTS_S, _ROW_S, _TRAINING_S = 150, 4, 60
_BATCHES = (64, 128, 256)
_CLASSIFIER_BATCH, _SRGAN_BATCH = 128, 64  # larger than the recipes', which are for a CPU
_PX = 128


@dataclass(slots=True)
class ThroughputCounter(L.Callback):
    """Counts what is trained in a number of seconds after the first batches, then ends the training.

    Attributes:
        seconds: How long to count.
        n_warm_up: Batches that are not counted.
        per_second: Crops a second; 0 before the end.
    """

    seconds: float
    n_warm_up: int = 3
    per_second: float = 0.0
    _n_crops: int = field(default=0, init=False)
    _start: float = field(default=0.0, init=False)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        _module: L.LightningModule,
        _outputs: object,
        batch: Sequence[torch.Tensor],
        index: int,
    ) -> None:
        """Count a batch."""
        if index + 1 < self.n_warm_up:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if index + 1 == self.n_warm_up:
            self._start = time.perf_counter()
            return
        self._n_crops += len(batch[0])
        elapsed_s = time.perf_counter() - self._start
        self.per_second = self._n_crops / elapsed_s
        trainer.should_stop = elapsed_s >= self.seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    start = time.perf_counter()
    print(f"{_describe_machine()}\n\n| what | result |\n|---|---|", flush=True)
    for name, measure, needed_s in list_rows():
        left_s = _LIMIT_S - (time.perf_counter() - start)
        result = measure() if left_s > needed_s else f"skipped: {left_s:.0f} s left of {_LIMIT_S}"
        print(f"| {name} | {result} |", flush=True)


def list_rows() -> Iterator[tuple[str, Callable[[], str], float]]:
    """Yield each row's name, its measurement, and the seconds that this may take."""
    yield "tests marked gpu", run_gpu_tests, _TESTS_S
    folder = default_models_dir()
    for kind in (ClassifierCard, CompactCard):
        card: CellClassifierCard = load_fp32_card(folder, kind)
        content = read_model_bytes(card, folder)
        problem = cuda_unavailable_reason(card, content)
        fp16 = b"" if problem else convert_to_fp16(content)
        for batch_size in _BATCHES:
            for bound in (False, True):
                name = f"{card.name}, fp16, {batch_size} cells a call, {'IO binding' if bound else 'plain'}"

                def measure(
                    problem: str | None = problem, fp16: bytes = fp16, batch_size: int = batch_size, bound: bool = bound
                ) -> str:
                    if problem:
                        return f"skipped: {problem}"
                    return f"{time_inference(fp16, CUDA, batch_size, bound, _ROW_S):.0f} cells/s"

                yield name, measure, 3 * _ROW_S
    recipe = load_recipe("default")
    for name, make, batch_size in (
        ("VGG19", make_classifier, _CLASSIFIER_BATCH),
        ("SRGAN", make_srgan, _SRGAN_BATCH),
    ):
        title = f"training of {name}, {batch_size} crops a step"
        yield title, lambda make=make, size=batch_size: format_training(recipe, make, size), 1.5 * _TRAINING_S


def run_gpu_tests() -> str:
    """Run the tests that need a GPU; they skip themselves without one. Returns pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/inference"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TESTS_S, check=False)
    except subprocess.TimeoutExpired:
        return f"not done within {_TESTS_S} s"
    lines = done.stdout.strip().splitlines()
    return f"exit code {done.returncode}: {lines[-1] if lines else done.stderr.strip()[-200:]}"


def time_inference(content: bytes, provider: str, batch_size: int, bound: bool, seconds: float) -> float:
    """Time a classifier's logits, with the copies to and from the device.

    Args:
        content: An ONNX file.
        provider: The execution provider.
        batch_size: Cells a call.
        bound: Whether input and output keep their places in the device's memory (IO binding).
        seconds: How long it runs.

    Returns:
        Cells a second.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    providers = [(provider, provider_options(provider, Precision.FP16))]
    session = ort.InferenceSession(content, options, providers=providers, enable_fallback=0)
    cells = np.random.default_rng(0).integers(0, 256, (batch_size, _PX, _PX, 3), np.uint8)
    name, device = session.get_inputs()[0].name, "cpu" if provider == CPU else "cuda"
    value = ort.OrtValue.ortvalue_from_numpy(cells, device, 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input(name, value)
    binding.bind_output(LOGITS, device)

    def call() -> None:
        if bound:
            value.update_inplace(cells)
            session.run_with_iobinding(binding)
            binding.copy_outputs_to_cpu()
        else:
            session.run([LOGITS], {name: cells})

    call()
    n_calls, start = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - start) < seconds or not n_calls:
        call()
        n_calls += 1
    return n_calls * batch_size / elapsed_s


def format_training(
    recipe: Recipe, make: Callable[[Recipe, int], tuple[L.LightningModule, Sequence[torch.Tensor]]], batch_size: int
) -> str:
    """Measure a training on the GPU, or say why there is none."""
    if not torch.cuda.is_available():
        return f"skipped: PyTorch {torch.__version__} sees no GPU"
    module, arrays = make(recipe, batch_size)
    return f"{time_training(module, arrays, _TRAINING_S):.0f} crops/s"


def make_classifier(recipe: Recipe, batch_size: int) -> tuple[L.LightningModule, Sequence[torch.Tensor]]:
    """Return the recipe's classifier with random weights, and one batch of random crops with classes."""
    n_classes = len(recipe.classes)
    module = ClassifierModule(recipe.classifier, n_classes, None)
    return module, (_random_rgb(batch_size, _PX), torch.randint(n_classes, (batch_size,)))


def make_srgan(recipe: Recipe, batch_size: int) -> tuple[L.LightningModule, Sequence[torch.Tensor]]:
    """Return the recipe's SRGAN without content loss, which needs ImageNet weights, and one batch of random pairs."""
    sizes = recipe.networks
    generator = Generator(sizes.generator_blocks, sizes.generator_width)
    discriminator = Discriminator(sizes.discriminator_width, sizes.discriminator_hidden)
    srgan = recipe.srgan.model_copy(update={"content_weight": 0.0})
    module = SrganModule(srgan, generator, discriminator, None)
    return module, (_random_rgb(batch_size, _PX // SCALE), _random_rgb(batch_size, _PX))


def time_training(
    module: L.LightningModule, arrays: Sequence[torch.Tensor], seconds: float, accelerator: str = "auto"
) -> float:
    """Train on the same batch again and again.

    Args:
        module: What to train.
        arrays: One batch.
        seconds: How long it runs after the first steps.
        accelerator: Lightning's name of the processor.

    Returns:
        Crops a second.
    """
    counter = ThroughputCounter(seconds)
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=default_precision(),
        max_epochs=1,
        callbacks=[counter],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches: list[Sequence[torch.Tensor]] = [tuple(arrays)] * 1_000_000  # one object; the counter ends the training
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return counter.per_second


def _random_rgb(number: int, side_px: int) -> torch.Tensor:
    """Return (number, 3, side, side) random uint8."""
    return torch.randint(256, (number, 3, side_px, side_px), dtype=torch.uint8)


def _describe_machine() -> str:
    """Describe the GPU and the versions."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{gpu}, onnxruntime {ort.__version__}, PyTorch {torch.__version__}"


if __name__ == "__main__":
    main()
