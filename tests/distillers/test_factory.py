import pytest

from graphkd.distillers.factory import create_distiller
from graphkd.errors import MissingFeatureError, UnknownNameError
from tests.distiller_laws import networks


class Network:
    """Tells its sizes, as a Tap or a Teacher does."""

    embedding_dim, num_classes = 6, 5


def test_sizes_from_networks_and_from_features_agree():
    student, _ = networks(4)
    by_network = create_distiller("cc", Network(), Network(), embed_dim=3)
    by_features = create_distiller("cc", student, student, embed_dim=3)
    shapes = [[tuple(p.shape) for p in each.parameters()] for each in (by_network, by_features)]
    assert shapes[0] == shapes[1] == [(3, 6), (3,)] * 2


def test_a_size_given_is_not_asked_for():
    distiller = create_distiller("ickd", Network(), Network(), channels=[(4, 7)])
    assert distiller.adapters[0][0].weight.shape == (7, 4, 1, 1)


def test_unknown_names_are_suggested_and_listed():
    student, teacher = networks(4)
    with pytest.raises(UnknownNameError, match="unknown distiller 'rdk'; did you mean 'rkd'\\? Known: at, "):
        create_distiller("rdk", student, teacher)
    with pytest.raises(UnknownNameError, match="unknown option of 'rkd' 'angle_wieght'; did you mean 'angle_weight'"):
        create_distiller("rkd", student, teacher, angle_wieght=1)
    with pytest.raises(UnknownNameError, match="option of 'prg' 'node_wieght'; did you mean 'node_weight'.*rho"):
        create_distiller("prg", student, teacher, node_wieght=1)


def test_a_size_that_nobody_tells_is_named():
    with pytest.raises(MissingFeatureError, match="TRGDistiller needs token_dims.*between\\(student\\(images\\)"):
        create_distiller("trg", Network(), Network())
