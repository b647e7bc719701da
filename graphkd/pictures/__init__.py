"""Pictures of a run as matplotlib figures, and one HTML report; needs ``pip install 'graphkd[report]'``."""

from importlib.util import find_spec

from graphkd.pictures.canvas import save_picture as save_picture
from graphkd.pictures.confusion import draw_confusion as draw_confusion
from graphkd.pictures.curves import draw_curves as draw_curves
from graphkd.pictures.embeddings import Plane as Plane
from graphkd.pictures.embeddings import draw_embeddings as draw_embeddings
from graphkd.pictures.proxy_graph import draw_proxy_graph as draw_proxy_graph
from graphkd.pictures.quality import draw_class_bars as draw_class_bars
from graphkd.pictures.quality import draw_guesses as draw_guesses
from graphkd.pictures.quality import draw_reliability as draw_reliability
from graphkd.pictures.relations import draw_relations as draw_relations
from graphkd.pictures.spectra import draw_spectra as draw_spectra

PACKAGES = ("matplotlib", "jinja2")


def missing() -> list[str]:
    """Packages of the extra ``report`` that are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]
