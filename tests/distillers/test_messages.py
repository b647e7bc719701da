"""What a method refuses: the error names what was expected, what was found, and what to do."""

from dataclasses import replace

import pytest
import torch
from torch import tensor

from graphkd.distillers.at import ATDistiller
from graphkd.distillers.cc import CCDistiller
from graphkd.distillers.combined import CombinedDistiller
from graphkd.distillers.crg.distiller import CRGDistiller
from graphkd.distillers.dist import DISTDistiller
from graphkd.distillers.dkd import DKDDistiller
from graphkd.distillers.ega import EGADistiller
from graphkd.distillers.eikd.class_dropping import TopK
from graphkd.distillers.eikd.distiller import EIKDDistiller
from graphkd.distillers.eikd.noise_matrix import NoiseMatrix
from graphkd.distillers.fitnet import FitNetDistiller
from graphkd.distillers.fsp import FSPDistiller
from graphkd.distillers.gkd import GKDDistiller
from graphkd.distillers.hkd import HKDDistiller
from graphkd.distillers.ickd import ICKDDistiller
from graphkd.distillers.irg import IRGDistiller
from graphkd.distillers.kd import KDDistiller
from graphkd.distillers.rkd import RKDDistiller
from graphkd.distillers.sp import SPDistiller
from graphkd.distillers.trg import TRGDistiller
from graphkd.errors import DataError, GraphError, MissingFeatureError, OptionError, ShapeError, UnknownNameError
from graphkd.features import Features, Mixture
from tests.distiller_laws import networks


def logits(*shape):
    return Features(logits=torch.zeros(*shape))


WIDE = Features(maps={"layer1": torch.zeros(4, 6, 4, 4), "layer2": torch.zeros(4, 20, 2, 2)})
ODD = {"layer1": torch.zeros(4, 10, 4, 4), "layer2": torch.zeros(4, 7, 2, 2)}
REFUSED = [  # a call with a student and a teacher of 4 samples, the error
    (lambda s, t: KDDistiller(temperature=0.0), OptionError, "temperature of a softmax is > 0, found 0"),
    (lambda s, t: KDDistiller()(logits(2, 3), logits(2, 4)), ShapeError,
     r"student logits \(2, 3\) and teacher logits \(2, 4\) differ: .*same classes"),
    (lambda s, t: DKDDistiller(temperature=-1.0), OptionError, "temperature of a softmax is > 0"),
    (lambda s, t: DKDDistiller()(logits(2, 1), logits(2, 1), target=tensor([0, 0])), ShapeError, "at least 2 classes"),
    (lambda s, t: DISTDistiller(temperature=0.0), OptionError, "temperature of a softmax is > 0, found 0"),
    (lambda s, t: ATDistiller(power=3), OptionError, "even number >= 2, found 3"),
    (lambda s, t: CCDistiller(6, 8, gamma=0.0), OptionError, "the kernel needs gamma > 0 and order >= 1, found 0"),
    (lambda s, t: CCDistiller(6, 8, form="kernels"), UnknownNameError, "form of CC 'kernels'; did you mean 'kernel'"),
    (lambda s, t: CCDistiller(6, 8, form="adjacent")(s, t), ShapeError,
     r"student embeddings \(4, 6\) and teacher embeddings \(4, 8\) differ: project"),
    (lambda s, t: FitNetDistiller([(2, 3)], adapter="none"), ShapeError, "2 channels, teacher maps 3"),
    (lambda s, t: FSPDistiller(maps={"layer1": "layer1"})(s, t), ShapeError, "two maps or more, found 1"),
    (lambda s, t: FSPDistiller()(WIDE, t), ShapeError, r"\(4, 6, 4, 4\) and teacher maps \(4, 10, 4, 4\) differ in channels"),
    (lambda s, t: ICKDDistiller([(2, 3)], adapter="none"), ShapeError,
     "2 channels, teacher maps 3, and adapter='none'.*adapter='conv_bn'"),
    (lambda s, t: ICKDDistiller([(2, 3)], adapter="conv_nb"), UnknownNameError, "'conv_nb'; did you mean 'conv_bn'"),
    (lambda s, t: ICKDDistiller([(9, 10)], maps={"layer1": "layer1"})(s, t), ShapeError,
     r"ICKD was built for student maps of \[9\] channels, found \[10\]: name the pairs"),
    (lambda s, t: ICKDDistiller([(4, 4)])(s, t), ShapeError, r"teacher maps of \[4\] channels, found \[10, 20\]"),
    (lambda s, t: SPDistiller(on="embeding"), UnknownNameError, "part of the features 'embeding'; did you mean 'embed"),
    (lambda s, t: SPDistiller(maps={"layer1": "layer3"})(s, t), UnknownNameError, "one of the maps 'layer3'; did you"),
    (lambda s, t: SPDistiller(maps={})(s, t), OptionError, "no maps to compare"),
    (lambda s, t: SPDistiller()(logits(2, 2), logits(2, 2)), MissingFeatureError, "SP needs features.maps"),
    (lambda s, t: SPDistiller()(s, replace(t, maps={"layer1": t.maps["layer1"]})), ShapeError,
     r"student has 2 \(layer1, layer2\), the teacher 1 \(layer1\): name the pairs"),
    (lambda s, t: SPDistiller()(s, replace(t, mixture=Mixture(torch.arange(4), torch.ones(4)))), OptionError,
     "give the teacher the blended images instead of a store"),
    (lambda s, t: RKDDistiller(angle_weight=-1.0), OptionError, "angle term is a finite number >= 0, found -1"),
    (lambda s, t: RKDDistiller()(logits(2, 3), logits(2, 3)), MissingFeatureError, "RKD needs features.embedding"),
    (lambda s, t: IRGDistiller(maps={"layer1": "layer1"})(s, t), ShapeError, "IRG compares two maps, found 1"),
    (lambda s, t: IRGDistiller()(Features(s.embedding, s.logits, maps=ODD), t), ShapeError,
     "found 7 and 10: choose maps whose channels divide"),
    (lambda s, t: GKDDistiller(power=0), OptionError, "whole numbers >= 1, found 0 and None"),
    (lambda s, t: GKDDistiller(among="sames"), UnknownNameError, "unknown set of edges 'sames'; did you mean 'same'"),
    (lambda s, t: GKDDistiller(among="same")(s, t), MissingFeatureError, "among='same' needs target"),
    (lambda s, t: EIKDDistiller(9, 8, 5)(s, t), ShapeError, "embeddings of width 9, found 6"),
    (lambda s, t: EIKDDistiller(6, 8, 5).double()(s, replace(t, logits=t.logits[:, :4])), ShapeError,
     r"student logits \(4, 5\) and teacher logits \(4, 4\)"),
    (lambda s, t: EIKDDistiller(6, 8, 5).double()(s, replace(t, logits=None)), MissingFeatureError,
     "EIKD needs features.logits"),
    (lambda s, t: EIKDDistiller(5, 7, 12, drop="top_k"), UnknownNameError, "did you mean 'topk'"),
    (lambda s, t: EIKDDistiller(5, 7, 12, relation="cosin"), UnknownNameError,
     "unknown relation 'cosin'; did you mean 'cosine'. Known: cosine, cosine_mean"),
    (lambda s, t: EIKDDistiller(5, 7, 12, explicit="feature"), UnknownNameError, "did you mean 'features'"),
    (lambda s, t: EIKDDistiller(5, 7, 12, temperature=0.0), OptionError, "softmax is > 0"),
    (lambda s, t: NoiseMatrix(10, 1.0), OptionError, "accuracy in"),
    (lambda s, t: TopK(0), OptionError, "at least 1 class is kept, k = 0"),
    (lambda s, t: CombinedDistiller({}), OptionError, "needs a part of weight > 0"),
    (lambda s, t: CombinedDistiller({"kd": KDDistiller()}, weights={"kd": -1.0}), OptionError,
     "part 'kd' is a finite number >= 0, found -1"),
    (lambda s, t: CombinedDistiller({"kd": KDDistiller()}, weights={"kdd": 1.0}), UnknownNameError,
     "unknown part 'kdd'; did you mean 'kd'"),
    (lambda s, t: CombinedDistiller({"kd": KDDistiller()}).build(s, "student"), GraphError,
     r"a graph for each part \(kd\)"),
    (lambda s, t: EGADistiller(6, 8, 5, norm="frob"), UnknownNameError, "unknown norm 'frob'; did you mean 'fro'"),
    (lambda s, t: EGADistiller(6, 8, 5, teacher_head="online"), UnknownNameError, "unknown teacher head 'online'"),
    (lambda s, t: EGADistiller(10, 8, 5, classifier_on="embedding"), ShapeError,
     r"256 wide, and the student's embedding is 10: use EmbeddingHead\(student, 256"),
    (lambda s, t: TRGDistiller([(6, 6)], neighbors=0), OptionError, "neighbors and tokens_per_image are >= 1"),
    (lambda s, t: TRGDistiller([(6, 6)], direction="studnet"), UnknownNameError,
     "unknown direction 'studnet'; did you mean 'student'"),
    (lambda s, t: TRGDistiller([(6, 8)]).double()(s, replace(t, tokens={"blocks": t.tokens["blocks"][:, 1:]})),
     ShapeError, "found 5 tokens of the student and 4 of the teacher: leave out class tokens"),
    (lambda s, t: HKDDistiller.between(s, t), MissingFeatureError,
     "needs num_samples, which neither Features nor Features tells"),
    (lambda s, t: HKDDistiller(4, 4, 5, momentum=2), OptionError,
     r"momentum in \[0, 1\], found 8, 16384, 5, 0.07 and 2"),
    *((lambda s, t, index=index: HKDDistiller(6, 8, 32).double()(s, t, index=tensor(index)), DataError,
       "num_samples=32 samples, found index .*: num_samples is the size of the tr")
      for index in ([0, 1, 2, 32], [0, 1, -1, 2])),
    (lambda s, t: CRGDistiller.between(s, t, adapter="none").double()(s, replace(t, maps=ODD)), ShapeError,
     r"CRG was built for teacher maps of \[10, 20\] channels, found \[10, 7\]: name the pairs"),
    (lambda s, t: CRGDistiller([(6, 10)], adapter="none"), ShapeError,
     "6 channels, teacher maps 10, and adapter='none' leaves them so"),
    (lambda s, t: CRGDistiller.between(s, t, edge_alignment="kl").double()(s, t), OptionError,
     "'kl' compares whole rows, it takes no weight of single edges"),
    (lambda s, t: CRGDistiller.between(s, t, k=10).double()(s, t), OptionError,
     "a graph of 10 nodes has 9 non-trivial eigenvectors, 10 were asked for: lower k"),
    (lambda s, t: CRGDistiller([(6, 6)], warmup_steps=-1), OptionError, "warmup_steps is >= 0, found -1"),
    (lambda s, t: CRGDistiller.between(s, t)(s, replace(t, maps=None)), MissingFeatureError, "CRG needs features.maps"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(*networks(4))
