"""The choices of the commands. They are not in wbctool.settings, so that `wbctool --help` does not import pydantic."""

from __future__ import annotations

from enum import StrEnum


class Device(StrEnum):
    """Where the models run. ``auto``: on CUDA if a session really works there, else on the CPU, with a message."""

    AUTO = "auto"
    CUDA = "cuda"
    CPU = "cpu"


class SuperResolve(StrEnum):
    """Which crops go through the generator (wbctool.stages.preprocess)."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Precision(StrEnum):
    """The models' arithmetic. ``auto``: int8 on a CPU and fp16 on CUDA if there are such copies, else fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Readers(StrEnum):
    """Which networks classify a cell. ``both``: a cell on which they differ goes to review."""

    BOTH = "both"
    VGG19 = "vgg19"
    COMPACT = "compact"


class CopyPrecision(StrEnum):
    """The precisions of copies; the models themselves compute in fp32."""

    INT8 = Precision.INT8.value
    FP16 = Precision.FP16.value


class TrainStage(StrEnum):
    """The models that `wbctool train` trains, by the section of the recipe."""

    ALL = "all"
    DETECTOR = "detector"
    SRGAN = "srgan"
    CLASSIFIER = "classifier"
    COMPACT = "compact"


class BackboneChoice(StrEnum):
    """The backbones of wbctool_training.models.backbones, which cannot be imported without torch."""

    VGG19 = "vgg19"
    VGG16 = "vgg16"
    RESNET50 = "resnet50"
    EFFICIENTNET_B7 = "efficientnet_b7"


class SplitChoice(StrEnum):
    """Which groups of the labeled data `evaluate` uses."""

    TEST = "test"
    VALIDATION = "validation"
    ALL = "all"
