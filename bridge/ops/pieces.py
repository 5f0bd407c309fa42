"""What goes on from piece to piece of a sequence, beside recurrent layers."""

from __future__ import annotations

from bridge import layers
from bridge.graph.functions import DOMAIN
from bridge.ops.contract import Site
from bridge.ops.layouts import ANY
from bridge.ops.registry import op


@op("Past", domain=DOMAIN, layout=ANY, axes="axis", batch_first=True, makes=(layers.Past,))
def past(site: Site, x, *, axis, frames, fill):
    name = f"{site.step.path or 'sequence'}_past"
    return site.layer(layers.Past, frames=frames, axis=axis, fill=fill, name=name, dtype=x.dtype)(x)
