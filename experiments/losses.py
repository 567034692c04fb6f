"""`wbctool train --ablate`: what each term of the generator's loss is worth.

The generator is trained further under each loss, from one start and on the same pairs. `wbctool evaluate` then sets
them side by side: what the classifier makes of small cells, PSNR and SSIM.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from wbctool_training.context import TrainingContext
from wbctool_training.trainers.srgan import GeneratorSplit, export_generator, pretrain, train_gan

log = logging.getLogger(__name__)

OUTPUT_SUBDIR = "ablate"
_PIXEL: dict[str, Any] = {"pixel_weight": 1.0, "content_weight": 0.0, "adversarial_weight": 0.0}
_PHI34: dict[str, Any] = {"content_weight": 1.0, "content_layer": (3, 4)}
_PHI54: dict[str, Any] = {"content_weight": 1.0, "content_layer": (5, 4)}
_GAN: dict[str, Any] = {"adversarial_weight": 1e-3}

LOSSES = {
    "generator-l1": _PIXEL,
    "generator-l1-phi34": _PIXEL | _PHI34,
    "generator-l1-phi54": _PIXEL | _PHI54,
    "generator-l1-phi34-gan": _PIXEL | _PHI34 | _GAN,
    "generator-l1-phi54-gan": _PIXEL | _PHI54 | _GAN,
}


def ablate_losses(context: TrainingContext) -> None:
    """Train and publish one generator for each of LOSSES, named after it; needs the detector in the output folder.

    All begin at the end of the recipe's warm-up and see ``gan_samples`` pairs.
    """
    cells = GeneratorSplit.from_context(context)
    initial_generator = pretrain(context, cells)
    for name, weights in LOSSES.items():
        log.info("%s: %s", name, ", ".join(f"{key} {value}" for key, value in weights.items()))
        srgan = context.recipe.srgan.model_copy(update=weights)
        variant = replace(context, recipe=context.recipe.model_copy(update={"srgan": srgan}))
        export_generator(variant, train_gan(variant, initial_generator, cells, f"{OUTPUT_SUBDIR}/{name}"), cells, name)
