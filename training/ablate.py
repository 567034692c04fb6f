"""`wbctool train --ablate`: what each term of the generator's loss is worth.

The generator is trained further under each loss, from one start and on the same pairs. `wbctool evaluate` then sets
them side by side: what the classifier makes of small cells, PSNR and SSIM.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from training.stages.srgan import GeneratorCells, play_gan, publish_generator, warm_up
from training.workplace import Workplace

log = logging.getLogger(__name__)

FOLDER = "ablate"
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


def ablate_losses(work: Workplace) -> None:
    """Train and publish one generator for each of LOSSES, named after it; needs the detector in the output folder.

    All begin at the end of the recipe's warm-up and see ``gan_samples`` pairs.
    """
    cells = GeneratorCells.of(work)
    start = warm_up(work, cells)
    for name, weights in LOSSES.items():
        log.info("%s: %s", name, ", ".join(f"{key} {value}" for key, value in weights.items()))
        srgan = work.recipe.srgan.model_copy(update=weights)
        variant = replace(work, recipe=work.recipe.model_copy(update={"srgan": srgan}))
        publish_generator(variant, play_gan(variant, start, cells, f"{FOLDER}/{name}"), cells, name)
