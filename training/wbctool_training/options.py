"""What a training is asked for, besides its recipe and stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wbctool.datasets.labelled import GroupSplit
from wbctool_training.models.backbones import Backbone


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """The options of `wbctool train` that a recipe does not set.

    Attributes:
        data: Folders of labeled data, or folders that contain several of these.
        out: Folder of the models; checkpoints and curves go to ``out/training``.
        imagenet_weights: A file for :func:`load_imagenet_features`; None downloads them.
        resume: Whether to continue from the last checkpoint of each stage.
        max_hours: Time limit of each training loop; what there is then is exported.
        group_split: Which groups are for training, validation and test.
        backbone: The classifier's network.
        init_from: Folders of the models that generator and classifier start from; empty starts anew. Of several, the
            classifier starts from the mean of their weights.
        workers: Processes that load training data; None uses every usable core.
        labels: A table for :func:`read_cell_labels`: the classes of cells in fields without a labels.csv.
    """

    data: Sequence[Path]
    out: Path
    imagenet_weights: Path | None = None
    resume: bool = False
    max_hours: float | None = None
    group_split: GroupSplit = GroupSplit()  # noqa: RUF009  (frozen)
    backbone: Backbone = Backbone.VGG19
    init_from: Sequence[Path] = ()
    workers: int | None = None
    labels: Path | None = None
