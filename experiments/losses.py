"""`python -m experiments.losses`: the effect of each term of the generator's loss.

Trains the generator with each loss from one start and on the same pairs. `wbctool evaluate --models OUT` then compares
the results: accuracy on small cells, PSNR and SSIM.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wbctool_training.context import TrainingContext
from wbctool_training.copied_models import copy_bundled_models, copy_unchanged_models
from wbctool_training.recipe_files import load_recipe
from wbctool_training.train import check_imagenet_weights, make_context
from wbctool_training.trainers.srgan import GeneratorSplit, export_generator, pretrain, train_gan

from experiments.options import add_training_options, make_parser, to_training_options
from wbctool.enums import TrainStage
from wbctool.errors import SettingsInvalid

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


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options and train one generator per loss."""
    parser = make_parser(__doc__)
    add_training_options(parser)
    parser.add_argument("--init-from", type=Path, metavar="DIR", help="start from the generator in DIR")
    args = parser.parse_args(argv)
    options = replace(to_training_options(args), init_from=[args.init_from] if args.init_from else [])
    recipe = load_recipe(args.recipe)
    if not recipe.srgan.gan_samples:
        raise SettingsInvalid(f"recipe {recipe.name} sets no gan_samples, by which the losses are compared")
    context = make_context(options, recipe)
    check_imagenet_weights(context, [TrainStage.SRGAN])
    copy_unchanged_models(context, [])
    copy_bundled_models(context, [TrainStage.SRGAN])
    compare_losses(context)


def compare_losses(context: TrainingContext) -> None:
    """Train and export one generator for each of LOSSES, named after it.

    All start from the end of the recipe's pretraining and see ``gan_samples`` pairs.

    Args:
        context: The context of the training; ``out`` holds the detector.
    """
    cells = GeneratorSplit.from_context(context)
    initial_generator = pretrain(context, cells)
    for name, weights in LOSSES.items():
        log.info("%s: %s", name, ", ".join(f"{key} {value}" for key, value in weights.items()))
        srgan = context.recipe.srgan.model_copy(update=weights)
        variant = replace(context, recipe=context.recipe.model_copy(update={"srgan": srgan}))
        export_generator(variant, train_gan(variant, initial_generator, cells, f"{OUTPUT_SUBDIR}/{name}"), cells, name)


if __name__ == "__main__":
    main()
