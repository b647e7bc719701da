"""Types and the legend of shape names, which hold in every annotation of graphkd.

==========  =============================================================
name        meaning
==========  =============================================================
``b``       graphs or samples in a batch
``n``, ``m``  source and target nodes
``d``       features of a node, width of an embedding
``c``       classes; in channel graphs, channels (the docstring says which)
``p``       prompts (templates)
``h``, ``w``  height and width of a map
==========  =============================================================
"""

from typing import Literal, TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Side: TypeAlias = Literal["student", "teacher"]
Scope: TypeAlias = Literal["batch", "shared", "image"]

__all__ = ["Bool", "Float", "Int", "Scope", "Side", "Tensor"]
