"""The class proxies of both networks of PRG, as its options ask for them."""

from typing import Final

from torch import nn

from graphkd.features import Features
from graphkd.graphs.proxies import PROXIES, PROXY_LOGITS, OwnProxies
from graphkd.registry import unknown

TEACHER_PROXIES: Final = ("own", "class_mean", "class_mean_ema")  # a teacher has no gradient to learn others by


class ProxyPair(nn.Module):
    """Completes both records of features with their proxies and what each head says of them.

    Args:
        num_classes, student_dim, teacher_dim: sizes of the features.
        student, teacher: names of ``proxies.PROXIES``.
        logits: name of ``proxies.PROXY_LOGITS``, or ``"none"``: edges that read features only.
        used: whether any term reads a proxy; if not, none is learnt, since parameters that no term reaches would
            stall distributed training.

    Raises: UnknownNameError; MissingFeatureError from features without proxies.
    """

    def __init__(
        self,
        num_classes: int,
        student_dim: int,
        teacher_dim: int,
        student: str,
        teacher: str,
        logits: str,
        *,
        used: bool,
    ) -> None:
        super().__init__()
        self._logits = PROXY_LOGITS.get(logits)
        if teacher not in TEACHER_PROXIES:
            raise unknown("teacher proxy", teacher, list(TEACHER_PROXIES))
        sources = PROXIES.get(student), PROXIES.get(teacher)
        if not used:
            sources = OwnProxies, OwnProxies
        self.student = sources[0](num_classes, student_dim)
        self.teacher = sources[1](num_classes, teacher_dim)

    def forward(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with their proxies."""
        teacher = self._logits(self.teacher(teacher, teacher))
        student = self._logits(self.student(student, teacher))
        for side, features in (("teacher", teacher), ("student", student)):
            features.need("proxies", f"PRG ({side})")
            features.need("proxy_logits", f"PRG ({side})")
        return student, teacher
