"""An exponential moving average of a network's weights, kept beside the one that is trained."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class EmaModule(L.LightningModule):
    """Trains ``network`` and keeps ``average``, the running mean of its weights (buffers too).

    The average lives in the module, so checkpoints carry it and a resumed training goes on with it. It follows within
    the step: a checkpoint that is written behind one holds weights and average of the same step. Under manual
    optimisation the task calls :meth:`follow` itself.
    """

    network: nn.Module
    average: AveragedModel

    def init_ema(self, network: nn.Module, decay: float) -> None:
        """From where ``network`` is now."""
        self.network = network
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.average = average.requires_grad_(False)

    def update_ema(self) -> None:
        """Take the network's weights of after a step into the average."""
        self.average.update_parameters(self.network)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.update_ema()
