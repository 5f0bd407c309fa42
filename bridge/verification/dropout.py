"""Dropout rates: what a torch module drops in training mode, call by call, and what the Keras model drops there.

Values cannot show a rate, because dropout is off where values are compared and random where it is on.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from bridge.frontend.torch_patches import DROPPING, replaced
from bridge.report import DROPOUT, LIMIT, Check
from bridge.verification.metrics import Arrays

if TYPE_CHECKING:
    from bridge.build import Built
    from bridge.frontend.torch_module import Torch

Rates = Counter[tuple[str, float]]  # (path of the torch module, rate)


def check_dropout(built: Built, witness: Torch, inputs: Arrays) -> Check | None:
    """Whether every call that drops in torch is a layer that drops as much; None where nothing does."""
    want, got = torch_rates(witness, inputs), keras_rates(built)
    if not want and not got:
        return None
    missing, extra = want - got, got - want
    failure = "; ".join(
        f"{side} drops {', '.join(f'{rate:g} at {path}' for path, rate in sorted(rates))}, {other} does not"
        for side, rates, other in (("torch", missing, "Keras"), ("Keras", extra, "torch"))
        if rates
    )
    error = float("inf") if failure else 0.0
    return Check(DROPOUT, "in training mode", error, LIMIT, failure=failure)


def keras_rates(built: Built) -> Rates:
    """The rate of each layer that drops, once for each node that became it."""
    layers = {layer.name: layer for layer in built.model.layers}
    configs = ((made.path, layers[made.name].get_config()) for made in built.made if made.name in layers)
    rates = ((path, config.get("rate", config.get("dropout", 0.0))) for path, config in configs)
    return Counter((path, round(float(rate), 6)) for path, rate in rates if isinstance(rate, float) and rate)


def torch_rates(witness: Torch, inputs: Arrays) -> Rates:
    """The rate of each call that drops, by the path of the innermost module that makes it. Where torch drops inside
    stacked recurrent layers, each layer but the last counts as one call. Trains `witness`: give a copy."""
    import torch

    paths = {module: path for path, module in witness.module.named_modules()}
    rates: Rates = Counter()
    running: list[Any] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def note(rate: float, times: int = 1) -> None:
        inner = next((paths[module] for module in reversed(running) if module in paths), "")
        if rate and times:
            rates[inner, round(float(rate), 6)] += times

    def drop(x: Any, p: float, train: bool) -> Any:
        note(p if train else 0.0)
        return x

    def attention(
        q: Any, k: Any, v: Any, mask: Any = None, dropout_p: float = 0.0, *rest: Any, **options: Any
    ) -> Any:
        if isinstance(
            running[-1], torch.nn.MultiheadAttention
        ):  # a direct call shows no rate when it is traced
            note(dropout_p)
        return attend(q, k, v, options.pop("attn_mask", mask), 0.0, *rest, **options)

    def enter(module: Any, *rest: Any) -> None:
        running.append(module)
        if isinstance(module, torch.nn.RNNBase):
            note(module.dropout, module.num_layers - 1)

    def leave(*rest: Any) -> None:
        running.pop()

    patches = [
        *((torch._VF, name, drop, "counted") for name in DROPPING),
        (torch.nn.functional, "scaled_dot_product_attention", attention, "counted"),
    ]
    hooks = torch.nn.modules.module
    with (
        replaced(patches),
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave, always_call=True),
        torch.no_grad(),
    ):
        witness.module.train()
        witness.outputs(inputs)
    return rates
