"""What a run may choose between. Apart from wbctool.settings, so that `wbctool --help` need not wait for pydantic."""

from __future__ import annotations

from enum import StrEnum


class Device(StrEnum):
    """Where the models run. auto: CUDA if a session really works there, else the CPU, and it says so."""

    AUTO = "auto"
    CUDA = "cuda"
    CPU = "cpu"


class SuperResolve(StrEnum):
    """Which crops go through the generator."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Precision(StrEnum):
    """The models' arithmetic. auto: int8 on a CPU, fp16 on CUDA where there are such copies, else fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
