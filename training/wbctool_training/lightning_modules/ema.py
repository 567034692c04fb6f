"""An exponential moving average (EMA) of a network's weights, kept beside the network in training."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class EmaModule(L.LightningModule):
    """A LightningModule that trains ``network`` and keeps ``average``, the EMA of its weights and buffers.

    The average is part of the module, so checkpoints contain it. It is updated within the optimizer's step, so a
    checkpoint after a step holds weights and average of the same step. With manual optimization the subclass calls
    :meth:`update_ema` itself.

    Attributes:
        network: The network in training.
        average: Its EMA, which is validated and exported.
    """

    network: nn.Module
    average: AveragedModel

    def init_ema(self, network: nn.Module, decay: float) -> None:
        """Take a network and start the average at its weights.

        Args:
            network: The network to train.
            decay: The average's share in each update, in [0, 1].
        """
        self.network = network
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.average = average.requires_grad_(False)

    def update_ema(self) -> None:
        """Update the average with the network's weights after a step."""
        self.average.update_parameters(self.network)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.update_ema()
