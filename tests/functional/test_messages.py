"""Bad shapes and options: both shapes and the remedy are named."""

import pytest
import torch

from graphkd import functional as F
from graphkd.errors import OptionError, ShapeError

ROWS = [F.rkd_distance, F.rkd_angle, F.pkt, F.correlation_congruence, F.ega_edge, F.trg_local, F.implicit_relations]
EQUAL = [F.ega, F.ega_node, F.correlation_congruence_adjacent, F.trg_global, F.explicit_features]
LOGITS = [F.kd, F.dist, F.dist_inter, F.dist_intra]


@pytest.mark.parametrize("loss", [*ROWS, *EQUAL, *LOGITS, F.similarity_preserving, F.gkd, F.irg_edge, F.fitnet])
def test_other_samples(loss):
    with pytest.raises(ShapeError, match=r"\(4, 5\) and teacher \(3, 5\).*the same batch in the same order"):
        loss(torch.zeros(4, 5), torch.zeros(3, 5))


@pytest.mark.parametrize("loss", EQUAL)
def test_other_widths(loss):
    with pytest.raises(
        ShapeError, match=r"\(4, 5\) and teacher embeddings \(4, 6\) differ: project the student to width 6"
    ):
        loss(torch.zeros(4, 5), torch.zeros(4, 6))


@pytest.mark.parametrize("loss", LOGITS)
def test_other_classes(loss):
    with pytest.raises(ShapeError, match=r"logits \(4, 5\) and teacher logits \(4, 6\) differ.*same classes"):
        loss(torch.zeros(4, 5), torch.zeros(4, 6))
    with pytest.raises(OptionError, match="temperature of a softmax is > 0, found 0"):
        loss(torch.zeros(4, 5), torch.zeros(4, 5), temperature=0)


def test_labels_that_do_not_fit():
    logits = torch.zeros(4, 5)
    for target in (torch.zeros(3, dtype=torch.long), torch.zeros(4)):
        with pytest.raises(ShapeError, match=r"logits \(4, 5\) do not fit: give one integer label for each sample"):
            F.dkd(logits, logits, target)
    with pytest.raises(ShapeError, match=r"at least 2 classes, found logits \(4, 1\): use kd"):
        F.dkd(logits[:, :1], logits[:, :1], torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("loss", [F.ickd, F.crg_edge, F.crg_spectral, lambda s, t: F.fsp([s, s], [t, t])])
def test_other_channels(loss):
    with pytest.raises(
        ShapeError, match=r"\(2, 3, 4, 4\) and teacher maps \(2, 5, 4, 4\).*1x1 convolution to 5 channels"
    ):
        loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4))


@pytest.mark.parametrize("loss", [F.ickd, F.nst, F.attention_transfer])
def test_maps_have_four_dimensions(loss):
    with pytest.raises(
        ShapeError, match=r"expected 4 dimensions, found student \(2, 3\).*\(batch, channels, height, width\)"
    ):
        loss(torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("loss", ROWS)
def test_embeddings_have_two_dimensions(loss):
    with pytest.raises(ShapeError, match=r"expected 2 dimensions.*flatten each sample to one row"):
        loss(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))


def test_fitnet_names_both_shapes():
    with pytest.raises(ShapeError, match=r"\(2, 3\) and teacher features \(2, 4\) differ: adapt the student"):
        F.fitnet(torch.zeros(2, 3), torch.zeros(2, 4))


def test_numbers_of_maps():
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ShapeError, match="found 1 of the student and 2 of the teacher"):
        F.fsp([x], [x, x])
    with pytest.raises(ShapeError, match="IRG compares two maps, found 3 of the student"):
        F.irg(x.flatten(1), x.flatten(1), (x, x, x), (x, x, x))
    with pytest.raises(ShapeError, match="found 4 and 3: choose maps whose channels divide"):
        F.irg_transformation((x, torch.zeros(2, 4, 4, 4)), (x, x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.correlation_congruence(x, x, gamma=0), "gamma > 0 and order >= 1, found 0 and 2"),
        (lambda x: F.gkd(x, x, power=0), "power and neighbors are whole numbers >= 1, found 0 and None"),
        (lambda x: F.trg_local(x, x, neighbors=0), "neighbors is >= 1, found 0"),
        (lambda x: F.trg_global(x, x, temperature=-1), "temperature of a softmax is > 0, found -1"),
    ],
)
def test_options_out_of_range(call, message):
    with pytest.raises(OptionError, match=message):
        call(torch.randn(3, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.rkd_distance(x, x, 25.0), "takes 2 positional arguments but 3 were given"),
        (lambda x: F.ega(x, x, 1, 0.3, "more"), "takes from 2 to 4 positional arguments but 5 were given"),
        (lambda x: F.kd(x, x, 4.0, temperature=1.0), "got multiple values for argument 'temperature'"),
        (lambda x: F.kd(x, teacher=x), "got an unexpected keyword argument 'teacher'"),
        (lambda x: F.kd(x), "missing 1 required positional argument: 'teacher_logits'"),
        (lambda x: F.crg_vertex(x, x, "mse"), "takes 2 positional arguments but 3 were given"),
    ],
)
def test_arguments_are_those_of_any_function(call, message):
    with pytest.raises(TypeError, match=message):
        call(torch.randn(3, 4))


def test_dsig_needs_one_truth_value_for_each_proposal():
    with pytest.raises(ShapeError, match=r"foreground mask \(2,\).*one truth value for each proposal"):
        F.dsig(torch.zeros(3, 4), torch.zeros(3, 4), torch.ones(2, dtype=torch.bool))
