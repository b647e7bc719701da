"""Named sets of prompt templates, and the check of your own."""

from collections.abc import Callable, Mapping, Sequence

from graphkd.errors import DataError, OptionError
from graphkd.registry import Registry

TEMPLATES: Registry[Callable[[], Sequence[str]]] = Registry("template set")

_CIFAR_STYLES = ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")


@TEMPLATES.register
def imagenet() -> Sequence[str]:
    """The 80 templates of OpenAI's ImageNet notebook, from open_clip."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]


@TEMPLATES.register
def cifar() -> Sequence[str]:
    """The 18 templates that OpenAI lists for CIFAR-10 and CIFAR-100."""
    found = []
    for article in ("a", "the"):
        found += [f"a {style}photo of {article} {{}}." for style in _CIFAR_STYLES]
        found += [f"a photo of {article} {size} {{}}." for size in ("small", "big")]
    return found


@TEMPLATES.register
def photo() -> Sequence[str]:
    """One template."""
    return ["a photo of a {}."]


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Template texts, each with one ``{}`` for the class name.

    Args:
        templates: name of a set (``"imagenet"``, ``"cifar"``, ``"photo"``), one template, or a list of templates.

    Raises: UnknownNameError with a suggestion and the list; OptionError for a template without exactly one ``{}``.
    Example: ``resolve_templates("a sketch of a {}.")`` is ``("a sketch of a {}.",)``.
    """
    if isinstance(templates, str):
        found = (templates,) if "{}" in templates else tuple(TEMPLATES.get(templates)())
    else:
        found = tuple(templates)
    if not found:
        raise OptionError(
            "expected at least one prompt template, found none: use templates='photo' or ['a photo of a {}.']"
        )
    for template in found:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise OptionError(
                f"prompt template {template!r} must contain {{}} exactly once, where the class name goes, "
                "as in 'a photo of a {}.'"
            )
    return found


def fill(template: str, classes: Sequence[str]) -> list[str]:
    """The prompt of every class; braces in a class name are left as they are."""
    return [template.replace("{}", name) for name in classes]


def resolve_classes(classes: Sequence[str] | Mapping[str, str]) -> tuple[str, ...]:
    """Class names as a tuple; of a mapping from id to name, the names. Two classes may share one.

    Raises: DataError for one text instead of a list, for an empty list and for a name that is empty or no text.
    """
    if isinstance(classes, str):
        raise DataError(f"expected a list of class names, found the text {classes!r}: write classes=[{classes!r}, ...]")
    names = tuple(classes.values() if isinstance(classes, Mapping) else classes)
    if not names:
        raise DataError("expected at least one class name, found none")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"class name {index} is {name!r}: every class needs a name, as prompts are made of it")
    return names
