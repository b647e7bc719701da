"""Named loss terms of one step."""

from collections.abc import Mapping

import torch

from graphkd.errors import MissingFeatureError, OptionError
from graphkd.typing import Tensor


class Losses(dict[str, Tensor]):
    """Terms by name, ``"<distiller>/<term>"``, weights inside; a plain ``dict`` to everything that handles outputs.

    Example::

        losses = Losses({"prg/node": torch.tensor(1.0), "prg/edge": torch.tensor(0.5)})
        losses.total                    # tensor(1.5)
    """

    @property
    def total(self) -> Tensor:
        """Sum of the terms.

        Raises: MissingFeatureError if there is none.
        """
        if not self:
            raise MissingFeatureError("there is no loss term to sum: every weight is 0, or no distiller was given")
        return torch.stack(list(self.values())).sum()

    def joined(self, other: Mapping[str, Tensor]) -> "Losses":
        """Both sets of terms. Raises: OptionError for a name that occurs in both."""
        twice = sorted(self.keys() & other.keys())
        if twice:
            raise OptionError(
                f"two distillers give the terms {', '.join(twice)}: rename one of them, distiller.name = 'another'"
            )
        return Losses({**self, **other})
