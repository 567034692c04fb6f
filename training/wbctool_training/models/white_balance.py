"""White glass: what a laboratory's lamp and camera make of it, taken out of a crop before the classifier sees it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

_BACKGROUND_LEVEL = 240.0  # what bare glass becomes, in every channel
_BACKGROUND_FRACTION = 0.05  # of a crop's blocks at least is taken for bare glass
_BLOCK_PX = 4  # so that no single bright pixel is
_MIN_BACKGROUND_LEVEL = 64.0  # glass is brighter; where a crop shows none it must not be blown up


class WhiteBalance(nn.Module):
    """Every channel scaled so that bare glass is the same light grey in every laboratory. Nothing is learnt.

    Glass is what is brightest about a cell, channel by channel: the 95 % quantile of its blocks' means (the white patch
    of Land and McCann 1971, doi 10.1364/JOSA.61.000001, by a quantile). rgb: [B, 3, H, W] float in [0, 255], of at
    least 20 px a side. Returns the same shape; what is brighter than glass may pass 255.
    """

    def forward(self, rgb: Tensor) -> Tensor:
        blocks = avg_pool2d(rgb, _BLOCK_PX).flatten(2)
        brightest = blocks.topk(int(_BACKGROUND_FRACTION * blocks.shape[2]), dim=2).values
        background = brightest[:, :, -1:, None].clamp(min=_MIN_BACKGROUND_LEVEL)
        return rgb * (_BACKGROUND_LEVEL / background)
