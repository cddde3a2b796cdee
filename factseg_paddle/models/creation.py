"""Networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from numbers import Integral
from typing import Any

from paddle import nn

from factseg_paddle.models import (
    deeplab,
    dense_aspp,
    dense_unet,
    factseg,
    farseg,
    fastfcn,
    fcn8s,
    pspnet,
    refinenet,
    resunet,
    segnet,
    semantic_fpn,
    unet,
)

Builder = Callable[..., nn.Layer]

MODELS: dict[str, Builder] = {
    "deeplabv3_resnet50": deeplab.deeplabv3_resnet50,
    "deeplabv3_resnet50_aspp1x1": deeplab.deeplabv3_resnet50_aspp1x1,
    "deeplabv3_resnet50_dropout50": deeplab.deeplabv3_resnet50_dropout50,
    "deeplabv3plus_resnet50": deeplab.deeplabv3plus_resnet50,
    "deeplabv3plus_resnet50_separable": deeplab.deeplabv3plus_resnet50_separable,
    "deeplabv3plus_resnet50_two3x3": deeplab.deeplabv3plus_resnet50_two3x3,
    "denseaspp_densenet121": dense_aspp.denseaspp_densenet121,
    "denseunet_densenet121": dense_unet.denseunet_densenet121,
    "factseg_resnet101": factseg.factseg_resnet101,
    "factseg_resnet152": factseg.factseg_resnet152,
    "factseg_resnet18": factseg.factseg_resnet18,
    "factseg_resnet34": factseg.factseg_resnet34,
    "factseg_resnet50": factseg.factseg_resnet50,
    "farseg_resnet50": farseg.farseg_resnet50,
    "fastfcn_resnet50_deeplabv3": fastfcn.fastfcn_resnet50_deeplabv3,
    "fastfcn_resnet50_encnet": fastfcn.fastfcn_resnet50_encnet,
    "fastfcn_resnet50_fcn": fastfcn.fastfcn_resnet50_fcn,
    "fastfcn_resnet50_os16": fastfcn.fastfcn_resnet50_os16,
    "fastfcn_resnet50_psp": fastfcn.fastfcn_resnet50_psp,
    "fcn8s_resnet50": fcn8s.fcn8s_resnet50,
    "fcn8s_vgg16": fcn8s.fcn8s_vgg16,
    "fcn8s_vgg16_atonce": fcn8s.fcn8s_vgg16_atonce,
    "fcn8s_vgg16_bn": fcn8s.fcn8s_vgg16_bn,
    "fcn8s_vgg16_pad1": fcn8s.fcn8s_vgg16_pad1,
    "pspnet_resnet50_deepstem_os8": pspnet.pspnet_resnet50_deepstem_os8,
    "pspnet_resnet50_os16": pspnet.pspnet_resnet50_os16,
    "pspnet_resnet50_os8": pspnet.pspnet_resnet50_os8,
    "refinenet_resnet101": refinenet.refinenet_resnet101,
    "refinenet_resnet50": refinenet.refinenet_resnet50,
    "refinenet_resnet50_crp2": refinenet.refinenet_resnet50_crp2,
    "resunet_resnet50": resunet.resunet_resnet50,
    "segnet_vgg16_bn": segnet.segnet_vgg16_bn,
    "segnet_vgg16_bn_relu": segnet.segnet_vgg16_bn_relu,
    "semanticfpn_resnet50": semantic_fpn.semanticfpn_resnet50,
    "unet_bilinear": unet.unet_bilinear,
    "unet_bilinear_w32": unet.unet_bilinear_w32,
    "unet_transposed": unet.unet_transposed,
    "unet_transposed_w32": unet.unet_transposed_w32,
}
"""Every network's function of (num_classes, *, options); names and functions are called alike."""

_MOST = 8  # suggestions for a name that is not known


def create_model(name: str, num_classes: int = 21, **options: Any) -> nn.Layer:
    """Build a network with its own initial weights.

    Args:
        name: one of `list_models()`.
        num_classes: classes including the background.
        **options: of that network; see the function of that name in its family's file.

    Returns:
        A network that maps images [N, 3, H, W] to an output with `logits` [N, num_classes, H, W]
        and `aux_logits`.

    Raises:
        ValueError: the name, an option or an option's value is not known, or num_classes is no
            integer from 2 on.
    """
    if name not in MODELS:
        raise ValueError(explain_unknown("network", name, list_models()))
    if not isinstance(num_classes, Integral):
        raise ValueError(f"num_classes {num_classes!r} is no integer; give the number of classes")
    if num_classes < 2:
        raise ValueError(
            f"num_classes {num_classes} is too few: background and one foreground class make 2"
        )
    _check_options(name, options)
    network = MODELS[name](num_classes, **options)
    network.num_classes = num_classes
    return network


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    known = dict(list(inspect.signature(MODELS[name]).parameters.items())[1:])
    for option, value in options.items():
        if option not in known:
            raise ValueError(explain_unknown(f"option of {name}", option, list(known)))
        default = known[option].default
        if isinstance(value, bool | int | float | str) and type(value) is not type(default):
            raise ValueError(
                f"option {option} of {name} is {value!r}; give a value such as {default!r}"
            )


def list_models() -> list[str]:
    """Return the names that `create_model` knows, sorted."""
    return sorted(MODELS)


def explain_unknown(what: str, given: str, known: list[str]) -> str:
    """Say that a name is not known: names that contain it or are like it, or all known.

    Capitals do not count, and names that begin with it come first.
    """
    part = given.lower()
    containing = sorted(
        (name for name in known if part and part in name.lower()),
        key=lambda name: not name.lower().startswith(part),
    )
    close = containing[:_MOST] or get_close_matches(part, known, n=3, cutoff=0.5)
    more = f" or {len(containing) - _MOST} more" if len(containing) > _MOST else ""
    choice = f"known are {', '.join(known)}"
    if close:
        choice = f"did you mean {' or '.join(close)}{more}?"
    return f"{what} {given!r} is not known; {choice if known else 'it has none'}"
