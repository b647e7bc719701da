"""CLIPTeacher: zero-shot classes from prompts, by any open_clip model."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import normalize

from graphkd.errors import OptionError, TeacherError
from graphkd.features import Features
from graphkd.models.huggingface import Tokenizer
from graphkd.registry import unknown
from graphkd.teachers.base import (
    NetworkTeacher,
    Precision,
    autocast,
    json_digest,
    structure_digest,
    tensor_digest,
    weight_digest,
)
from graphkd.teachers.prompts import LogWeight, PromptWeighting, Score, prompt_logits, prompt_scores, weighted_texts
from graphkd.teachers.texts import TextCache, resolve_classes, resolve_templates, text_bank
from graphkd.typing import Float, Tensor


class CLIPTeacher(NetworkTeacher):
    r"""A frozen open_clip model whose classes are prompts.

    .. math:: \bar z_{ic} = s \sum_p w_{pi} \langle f_i, t_{pc} \rangle, \qquad
              \bar t_c = \mathrm{unit}(\mathrm{mean}_p t_{pc}), \qquad G_t = s \bar T \bar T^\top

    Paper: Xu et al., "PRG", arXiv 2408.12248 (reconstruction; see ``prompt_logits``).
    ``Features``: embedding f of unit length, logits :math:`\bar z`, proxies :math:`\bar t`, proxy_logits :math:`G_t`,
    all float32. SigLIP's logit bias is kept in ``logit_bias`` and enters none of them: it is the same for all classes
    and prompts, so it changes no softmax, argmax or correlation, but would make the maxima in the weights negative.

    Args:
        model: open_clip name, JSON configuration (dictionary or path), checkpoint with its configuration beside it, or
            a built open_clip model (with ``tokenizer``);
            ``hf-hub:org/model`` or ``local-dir:folder`` (open_clip's files), ``hf:org/model`` (transformers').
        pretrained: tag, or path of a checkpoint; default: the one checkpoint beside a configuration. Not with a built
            model or a name that brings its weights.
        classes: class names, or a mapping from id to name.
        templates: ``"imagenet"`` (80), ``"cifar"`` (18), ``"photo"`` (1), or your own texts with one ``{}``.
        weight, score, tau: prompt weighting, see ``prompt_logits``.
        scope: ``"sample"``, ``"class"``, or ``"dataset"``: one weight per prompt, after :meth:`fit_prompts`.
        proxy: ``"mean"`` of the prompts, or ``"weighted"`` (``scope="dataset"`` only).
        quick_gelu: ``None`` takes the tag's, or the configuration's; for a checkpoint file say it if it needs it.
        precision: of the two towers (autocast), whatever surrounds the call; the rest is float32. With bf16 and fp16
            the bank of text embeddings is held in float16.
        device: where the towers and the bank are.
        cache_dir: folder for text embeddings, so that they are computed once and an interrupted run resumes; ``None``
            keeps them in memory only.
        image_batch, text_batch: images and prompts per forward pass.
        preprocess: replaces single values of the model's size, mean, std, interpolation, resize_mode.
        tokenizer: prompts -> token ids, for a built model or instead of the model's own.

    Attributes: those of ``Teacher``; logit_scale, logit_bias, templates, weighting, preprocess.
    Raises: TeacherError, UnknownNameError, OptionError, DataError.
    Example: ``CLIPTeacher("ViT-L-14", pretrained="openai", classes=["cat", "dog"])(images).logits``
    """

    classes: tuple[str, ...]
    by_text = True

    def __init__(
        self,
        model: str | Path | Mapping[str, Any] | nn.Module,
        *,
        pretrained: str | Path | None = None,
        classes: Sequence[str] | Mapping[str, str],
        templates: str | Sequence[str] = "imagenet",
        weight: str | LogWeight = "ratio",
        scope: Literal["sample", "class", "dataset"] = "sample",
        score: str | Score = "scaled",
        tau: float = 1.0,
        proxy: Literal["mean", "weighted"] = "mean",
        quick_gelu: bool | None = None,
        precision: Precision = "fp32",
        device: torch.device | str = "cpu",
        cache_dir: str | Path | None = None,
        image_batch: int = 256,
        text_batch: int = 256,
        preprocess: Mapping[str, Any] | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        from graphkd.teachers.openclip import load_clip  # seconds: open_clip is imported by whoever uses it

        self.classes, self.templates = resolve_classes(classes), resolve_templates(templates)
        self.num_classes = len(self.classes)
        self.weighting = PromptWeighting(weight, scope, score, tau)
        self._proxy = proxy
        self._image_batch, self._text_batch = image_batch, text_batch
        self._check_options()
        loaded = load_clip(model, pretrained, quick_gelu=quick_gelu, tokenizer=tokenizer)
        super().__init__(loaded.model, loaded.preprocessing(preprocess or {}), precision, device)
        self._tokenizer = loaded.tokenizer
        self.logit_scale = float(self._model.logit_scale.exp())
        bias = getattr(self._model, "logit_bias", None)
        self.logit_bias = 0.0 if bias is None else float(bias)
        self._fixed_texts: Tensor | None = None
        self._texts = self._embed_prompts(cache_dir)  # [p, c, d]
        self.embedding_dim = self._texts.shape[2]
        self._mean_texts = normalize(weighted_texts(self._texts), dim=-1)  # [c, d]
        if not bool(self._mean_texts.isfinite().all()):
            raise TeacherError(f"text embeddings are not finite with precision={precision!r}: use 'bf16' or 'fp32'")
        self._set_proxies(self._mean_texts)

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """Embedding, weighted prompt logits, text proxies and their logits."""
        embedding = self._embed(images)
        if self.weighting.scope == "dataset":
            logits = self._logits(embedding, self._fitted())
        else:
            logits = prompt_logits(embedding, self._texts, self.logit_scale, **vars(self.weighting))
        return Features(embedding=embedding, logits=logits, proxies=self._proxies, proxy_logits=self._proxy_logits)

    @torch.no_grad()
    def zero_shot(self, embedding: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        r"""Logits by averaged text embeddings, CLIP's usual ensembling: :math:`s \langle f_i, \bar t_c \rangle`."""
        return self._logits(embedding, self._mean_texts)

    @torch.no_grad()
    def fit_prompts(self, batches: Iterable[Float[Tensor, "b 3 h w"]]) -> "CLIPTeacher":
        """One pass over images in [0, 1] that fixes the prompt weights of ``scope="dataset"``; returns itself.

        Raises: OptionError for another scope, or if there is no image.
        """
        choice = self.weighting
        if choice.scope != "dataset":
            raise OptionError(f"scope={choice.scope!r} needs no fitting: build the teacher with scope='dataset'")
        embeddings = (self._embed(images) for images in batches)
        scores = prompt_scores(embeddings, self._texts, self.logit_scale, score=choice.score)
        self._fixed_texts = weighted_texts(self._texts, scores, weight=choice.weight, tau=choice.tau)
        if self._proxy == "weighted":
            self._set_proxies(normalize(self._fixed_texts, dim=-1))
        return self

    def _facts(self) -> dict[str, str]:
        prompts: dict[str, Any] = {"templates": self.templates, "classes": self.classes, "proxy": self._proxy}
        prompts |= self.weighting.spec()
        if self.weighting.scope == "dataset":
            prompts["texts"] = tensor_digest([("texts", self._fitted())])
        return {"tokens": self._token_digest(), "prompts": json_digest(prompts)}

    def _embed(self, images: Tensor) -> Tensor:
        return torch.cat(
            [self._tower(self._model.encode_image, self.preprocess(x)) for x in torch.split(images, self._image_batch)]
        )

    def _embed_prompts(self, cache_dir: str | Path | None) -> Tensor:
        cache = None
        if cache_dir is not None:
            facts = {
                "text_tower": weight_digest(self._model, without="visual."),
                "structure": structure_digest(self._model),
                "tokens": self._token_digest(),
                "precision": self._precision,
            }
            cache = TextCache(cache_dir, facts, self.classes)
        dtype = torch.float32 if self._precision == "fp32" else torch.float16
        return text_bank(self.templates, self.classes, self._encode, dtype=dtype, cache=cache).to(self.device)

    @torch.no_grad()
    def _encode(self, prompts: list[str]) -> Tensor:
        batches = torch.split(self._tokenizer(prompts), self._text_batch)
        return torch.cat([self._tower(self._model.encode_text, tokens.to(self.device)).cpu() for tokens in batches])

    def _tower(self, encode: Any, batch: Tensor) -> Tensor:
        """Unit vectors in float32; towers that also return tokens give a tuple, vector first."""
        with autocast(self.device, self._precision):
            output = encode(batch)
        return normalize((output[0] if isinstance(output, tuple) else output).float(), dim=-1)

    def _set_proxies(self, proxies: Tensor) -> None:
        self._proxies, self._proxy_logits = proxies, self._logits(proxies, proxies)

    def _logits(self, vectors: Tensor, texts: Tensor) -> Tensor:
        with autocast(self.device, "fp32"):
            return self.logit_scale * vectors.float() @ texts.T

    def _fitted(self) -> Tensor:
        if self._fixed_texts is None:
            raise TeacherError(
                "scope='dataset' needs one pass over images first: teacher.fit_prompts(batches of images)"
            )
        return self._fixed_texts

    def _token_digest(self) -> str:
        """What the tokenizer makes of the class names."""
        return tensor_digest([("tokens", self._tokenizer(list(self.classes)))])

    def _check_options(self) -> None:
        if self._proxy not in ("mean", "weighted"):
            raise unknown("proxy", self._proxy, ["mean", "weighted"])
        if self._proxy == "weighted" and self.weighting.scope != "dataset":
            raise OptionError("proxy='weighted' needs weights of the whole data set: add scope='dataset'")
        if min(self._image_batch, self._text_batch) < 1:
            raise OptionError(
                f"batch sizes must be >= 1, found {self._image_batch} images and {self._text_batch} prompts"
            )
