"""Dropout, which nothing shows but training: of elements, of whole channels, and alpha dropout."""

from __future__ import annotations

import numpy as np
from keras import layers, ops

from bridge.graph.decimals import decimal
from bridge.graph.functions import DOMAIN
from bridge.ops.contract import Array, Site, Step
from bridge.ops.layouts import ANY, CHANNELS_LAST
from bridge.ops.registry import op

SPATIAL_DROPOUT = {3: layers.SpatialDropout1D, 4: layers.SpatialDropout2D, 5: layers.SpatialDropout3D}


def _check_dropout(step: Step) -> str | None:
    training, rate = step.argument("training_mode"), step.argument("ratio")
    drops = training is not None and np.any(training) and (rate is None or np.any(rate))
    return "training_mode is true: every run drops others" if drops else None


@op("Dropout", layout=ANY, check=_check_dropout, makes=(layers.Dropout,))
def dropout(site: Site, x, ratio: Array = None, training_mode: Array = None, *, seed=None):
    rate = 0.5 if ratio is None else decimal(ratio)
    y = site.layer(layers.Dropout, rate=rate)(x) if rate else x
    return (y, ops.ones_like(x, dtype="bool")) if site.used(1) else y


@op("FeatureDropout", domain=DOMAIN, layout=CHANNELS_LAST, makes=(*SPATIAL_DROPOUT.values(), layers.Dropout))
def feature_dropout(site: Site, x, *, ratio):
    """Whole channels are dropped."""
    return site.layer(SPATIAL_DROPOUT.get(len(x.shape), layers.Dropout), rate=ratio)(x)


@op("AlphaDropout", domain=DOMAIN, layout=ANY, makes=(layers.AlphaDropout,))
def alpha_dropout(site: Site, x, *, ratio):
    return site.layer(layers.AlphaDropout, rate=ratio)(x)


@op("FeatureAlphaDropout", domain=DOMAIN, layout=CHANNELS_LAST, makes=(layers.AlphaDropout,))
def feature_alpha_dropout(site: Site, x, *, ratio):
    """Whole channels take the value that a dropped element takes."""
    shape = (None, *[1] * (len(x.shape) - 2), None)
    return site.layer(layers.AlphaDropout, rate=ratio, noise_shape=shape)(x)
