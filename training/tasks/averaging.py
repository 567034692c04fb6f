"""An exponential moving average of a network's weights, kept beside the one that is trained."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """The running average of ``network`` (buffers too); call ``update_parameters(network)`` after each step.

    It lives in the LightningModule, so checkpoints carry it and a resumed run goes on with it.
    """
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    return average.requires_grad_(False)
