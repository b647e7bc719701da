"""Students by name: any network of timm, torchvision or Hugging Face, with a classifier or without, in a Tap."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from torch import nn

from graphkd.errors import TapError, UnknownNameError
from graphkd.models.classifier import find_classifier
from graphkd.models.hub import no_retries, not_had
from graphkd.models.huggingface import PREFIX, hf_model
from graphkd.models.tap import Tap
from graphkd.models.weights import load_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def create_student(
    name: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    init: str | Path | None = None,
    maps: Sequence[str] = (),
    tokens: Sequence[str] = (),
) -> Tap:
    """A tapped network that takes images in [0, 1] and normalises them itself.

    Args:
        name: of timm, or of torchvision where timm has none (``"torchvision/resnet18"`` asks for torchvision's);
            ``"hf:google/vit-base-patch16-224"``, or ``"hf:"`` and a folder, for Hugging Face's.
        num_classes: width of its head; 0 for a backbone without one, which gives embeddings alone.
        pretrained: start from the library's weights, which are downloaded; default from scratch.
        init: file of weights to start from; all must fit but a head of other classes (:mod:`graphkd.models.weights`).
        maps, tokens: module paths that Features should hold.

    Raises: UnknownNameError with a suggestion; TapError if the weights cannot be had, and for a backbone of Hugging
        Face's; CheckpointError for ``init``.
    Example: ``create_student("resnet18", num_classes=100)``
    """
    if name.startswith(PREFIX) and num_classes == 0:
        raise TapError(f"{name} without a classifier cannot be built again by its name: choose a network of timm's")
    build = hf_model if name.startswith(PREFIX) else _listed
    model = build(name, num_classes, pretrained=pretrained)
    config = getattr(model, "pretrained_cfg", {})
    mean, std = config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD)
    student = Tap(model, maps=maps, tokens=tokens, mean=mean, std=std)
    student.created_as = name
    if init is not None:
        load_weights(student, init)
    return student


def _listed(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    """A model that timm or torchvision lists."""
    import timm
    from torchvision.models import list_models

    bare = name.removeprefix("torchvision/")
    from_timm = bare == name and timm.is_model(name)
    if not from_timm and bare not in list_models():
        near = get_close_matches(name, list(dict.fromkeys([*timm.list_models(), *list_models()])), n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
        raise UnknownNameError(
            f"unknown student {name!r}{hint} See timm.list_models(), torchvision.models.list_models()"
        )
    build: Callable[..., nn.Module] = timm.create_model if from_timm else _torchvision
    if not pretrained:
        return build(name if from_timm else bare, num_classes=num_classes)
    with no_retries() as found:
        try:
            return build(name if from_timm else bare, pretrained=True, num_classes=num_classes)
        except (OSError, RuntimeError) as error:
            raise TapError(
                f"the weights of {name} are {not_had(found, error)}: use pretrained=False, or init= a file of weights"
            ) from None


def _torchvision(name: str, num_classes: int, pretrained: bool = False) -> nn.Module:
    """The model, with all pretrained weights that do not belong to a head of another width."""
    from torchvision.models import get_model, get_model_weights

    model: nn.Module = get_model(name, num_classes=num_classes or 1)
    if pretrained:
        own = model.state_dict()
        weights = get_model_weights(name).DEFAULT.get_state_dict(progress=True)
        fitting = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
        model.load_state_dict(fitting, strict=False)
    if num_classes == 0:
        model.set_submodule(find_classifier(model)[0], nn.Identity())
        setattr(model, "num_classes", 0)  # noqa: B010  # timm's word for it
    return model
