"""White balance, the first layer of a classifier: lamp and camera matter less if the glass has one color."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

_BACKGROUND_LEVEL = 240.0  # gray level of empty background after balancing, in every channel
_BACKGROUND_FRACTION = 0.05  # of a crop's blocks, the brightest, are taken as background
_BLOCK_PX = 4  # averaging over blocks keeps single bright pixels from counting as background
_MIN_BACKGROUND_LEVEL = 64.0  # background is brighter; without a limit, a crop without any would be amplified


class WhiteBalance(nn.Module):
    """Scale every channel so that empty background has the same light gray in every laboratory; has no parameters.

    The background level of a channel is the 95 % quantile of its 4×4 block means.

    References:
        The white patch of Land and McCann 1971, doi 10.1364/JOSA.61.000001, taken at a quantile.
    """

    def forward(self, rgb: Tensor) -> Tensor:
        """Balance images.

        Args:
            rgb: (N, 3, H, W) float in [0, 255], H and W at least 20.

        Returns:
            The same shape; pixels brighter than the background may exceed 255.
        """
        blocks = avg_pool2d(rgb, _BLOCK_PX).flatten(2)
        brightest = blocks.topk(int(_BACKGROUND_FRACTION * blocks.shape[2]), dim=2).values
        background = brightest[:, :, -1:, None].clamp(min=_MIN_BACKGROUND_LEVEL)
        return rgb * (_BACKGROUND_LEVEL / background)
