"""Where class proxies come from: the network's own head, class means of the samples, learnt vectors, the text tower."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import one_hot

from graphkd import distributed
from graphkd.features import Features
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor

ProxySource = Callable[[Features, Features], Features]
"""Own features and the teacher's -> own features with proxies and proxy logits replaced."""

PROXIES: Registry[Callable[[int, int], ProxySource]] = Registry("proxy source")
PROXY_LOGITS: Registry[Callable[[Features], Features]] = Registry("proxy logit block")


@PROXIES.register("own")
class OwnProxies(nn.Module):
    """The proxies that the network brings: classifier rows (with gradient) or text embeddings."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()

    def forward(self, own: Features, teacher: Features) -> Features:
        """The features as they are."""
        return own


@PROXIES.register("detached")
class DetachedProxies(OwnProxies):
    """The network's own proxies as constants: the edges do not move the classifier."""

    def forward(self, own: Features, teacher: Features) -> Features:
        """The same values; no gradient reaches the classifier through them."""
        proxies, logits = own.tensor("proxies", "detached proxies"), own.tensor("proxy_logits", "detached proxies")
        return replace(own, proxies=proxies.detach(), proxy_logits=logits.detach())


@PROXIES.register("text")
class SharedTextProxies(OwnProxies):
    """The teacher's text embeddings for the student too; its samples then meet them through the projector."""

    def forward(self, own: Features, teacher: Features) -> Features:
        """The teacher's proxies and their logits."""
        return replace(own, proxies=teacher.proxies, proxy_logits=teacher.proxy_logits)


@PROXIES.register("learnable")
class LearnableProxies(nn.Module):
    """Free vectors in the network's embedding space, learnt by the edge loss; their logits are those of its classifier.

    Shapes: proxies (c, d), proxy_logits (c, c).
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(num_classes, dim))
        nn.init.trunc_normal_(self.vectors, std=dim**-0.5)

    def forward(self, own: Features, teacher: Features) -> Features:
        """The learnt proxies, and what the rows of the classifier (without its bias) say of them."""
        rows = own.tensor("proxies", "learnable proxies")
        return replace(own, proxies=self.vectors, proxy_logits=self.vectors @ rows.T)


@PROXIES.register("class_mean")
class ClassMeans(nn.Module):
    """Mean embedding and logits of the samples that the teacher gives to each class, in this batch (of all ranks).

    A class without samples has a zero proxy, whose edges are 0 and carry no gradient.
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def means(self, own: Features, teacher: Features) -> tuple[Tensor, Tensor, Tensor]:
        """Mean embeddings (c, d), mean logits (c, c) and sample counts (c, 1)."""
        own, teacher = own.blended(), teacher.blended()
        logits = own.tensor("logits", "class means")
        labels = teacher.tensor("logits", "class means").argmax(-1)
        member = one_hot(labels, self.num_classes).to(logits.dtype)
        count = distributed.total(member.sum(0)).unsqueeze(1)
        sums = [distributed.total(member.T @ x) for x in (own.tensor("embedding", "class means"), logits)]
        embedding, scores = (each / count.clamp_min(1) for each in sums)
        return embedding, scores, count

    def forward(self, own: Features, teacher: Features) -> Features:
        """Proxies of this batch."""
        embedding, scores, _ = self.means(own, teacher)
        return replace(own, proxies=embedding, proxy_logits=scores)


@PROXIES.register("class_mean_ema")
class RunningClassMeans(ClassMeans):
    """Running class means: constants that follow the batches; momentum 0.9, a class starts at its first mean."""

    embedding: Tensor
    scores: Tensor
    seen: Tensor

    def __init__(self, num_classes: int, dim: int, momentum: float = 0.9) -> None:
        super().__init__(num_classes, dim)
        self.momentum = momentum
        self.register_buffer("embedding", torch.zeros(num_classes, dim))
        self.register_buffer("scores", torch.zeros(num_classes, num_classes))
        self.register_buffer("seen", torch.zeros(num_classes, 1, dtype=torch.bool))

    def forward(self, own: Features, teacher: Features) -> Features:
        """Running proxies, after this batch if in training mode."""
        if self.training:
            self._follow(*self.means(own.detach(), teacher))
        dtype = own.dtype
        return replace(own, proxies=self.embedding.to(dtype, copy=True), proxy_logits=self.scores.to(dtype, copy=True))

    @torch.no_grad()
    def _follow(self, embedding: Tensor, scores: Tensor, count: Tensor) -> None:
        present = count > 0
        step = torch.where(present, torch.where(self.seen, 1 - self.momentum, 1.0), 0.0)
        self.embedding.add_(step.to(self.embedding.dtype) * (embedding - self.embedding))
        self.scores.add_(step.to(self.scores.dtype) * (scores - self.scores))
        self.seen |= present


@PROXY_LOGITS.register("own")
def _own(features: Features) -> Features:
    """What the head says of each proxy."""
    return features


@PROXY_LOGITS.register("one_hot")
def _one_hot(features: Features) -> Features:
    """Proxy c is of class c and nothing else."""
    proxies = features.tensor("proxies", "one-hot proxy logits")
    return replace(features, proxy_logits=torch.eye(len(proxies), dtype=proxies.dtype, device=proxies.device))


@PROXY_LOGITS.register("none")
def _none(features: Features) -> Features:
    """Edges are of features only: the logits of proxies are not read."""
    return features


def class_means(
    embedding: Float[Tensor, "n d"], logits: Float[Tensor, "n c"]
) -> tuple[Float[Tensor, "c d"], Float[Tensor, "c c"]]:
    """Class means over a whole data set, by the best class of the logits: proxies for ``Features`` from a store.

    Shapes: embedding (n, d), logits (n, c) -> proxies (c, d), proxy_logits (c, c).
    """
    features = Features(embedding=embedding, logits=logits)
    means, scores, _ = ClassMeans(logits.shape[-1], embedding.shape[-1]).means(features, features)
    return means, scores
