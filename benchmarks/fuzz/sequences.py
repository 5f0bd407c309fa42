"""The layers of random modules on sequences, lines and tokens, and what makes a value of one kind into another."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.fuzz.layers import SPATIAL, Draw, Maker, activation, blocks, last_norm, spatial, stopped

WIDTH = 8  # of sequences and states that go in
WORDS = 11  # of a table


def turned(maker: Maker) -> Maker:
    """The same for channels that are last."""
    return lambda d, c, sizes: f"turned({maker(d, c, sizes)})"


def linear(d: Draw, c: int, sizes: Sequence[int]) -> str:
    out = d.pick(c, 4, 6, WIDTH)
    return d.pick(
        f"nn.Linear({c}, {out}, bias={d.flag()})",
        f"nn.utils.parametrizations.weight_norm(nn.Linear({c}, {out}))",
        f"nn.utils.parametrizations.spectral_norm(nn.Linear({c}, {out}))",
        f"Do(lambda x, f: functional.linear(f(x), f.weight.T), f=nn.Linear({c}, {out}))",
        f"Do(lambda x, f: f(x, x.flip(-1)), f=nn.Bilinear({c}, {c}, {out}))",
        f"Do(lambda x, w: x @ w * w.shape[0] ** -0.5, w=nn.Parameter(torch.randn({c}, {out})))",
    )


def stopped_rows(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """As `stopped`, of layers on the last axis."""
    out, biased = d.pick(c, 4), d.flag()
    return d.pick(
        f"still(nn.Linear({c}, {out}))",
        f"Do(lambda x, f: x + f(x).detach(), f=nn.Linear({c}, {c}))",
        f"Do(lambda x, f, g: f(x.detach()) * g(x).sigmoid(), f=nn.Linear({c}, {out}), g=nn.Linear({c}, {out}))",
        f"frozen(nn.Linear({c}, {out}))",
        f"frozen(nn.LayerNorm({c}))",
        f"twins(nn.Linear({c}, {c}), nn.Linear({c}, {c}, bias={biased}))",
        f"Do(lambda x, f: functional.linear(x, f.weight, f.bias.detach()), f=nn.Linear({c}, {out}))",
        f"Do(lambda x, w, s: x @ (w * s), w=nn.Parameter(torch.randn({c}, {out}) / 2), s=torch.rand({c}, 1))",
    )


def recurrent(d: Draw, c: int, sizes: Sequence[int]) -> str:
    kind, both, layers = d.pick("LSTM", "GRU", "RNN"), d.flag(), d.pick(1, 1, 2)
    more = [f"num_layers={layers}", f"bias={d.flag()}", f"bidirectional={both}"]
    more += ["dropout=0.2"] if layers > 1 and d.flag() else []
    more += [f"nonlinearity={d.pick('tanh', 'relu')!r}"] if kind == "RNN" else []
    projected = kind == "LSTM" and d.random() < 0.3
    more += [f"proj_size={d.pick(2, 4)}"] if projected else []
    rnn = f"nn.{kind}({c}, {WIDTH}, {', '.join(more)}, batch_first="
    take = d.pick("y", "h", "yh", "c", "yc", "hc", "yhc")
    cut = {"LSTM": "y, s[0], s[1]", "GRU": "y, s", "RNN": "y, s"}[kind]
    states = "(state, state.flip(0) * 0.5)" if kind == "LSTM" else "state"
    forms = [
        f"first({rnn}True))",
        f"first({rnn}False))",
        f"Do(lambda x, f: (lambda y, s: ({cut}))(*f(x)), f={rnn}True))",
        f"Do(lambda x, lengths, f: packed(f, x, lengths, {take!r}, {d.flag()}), 'lengths', f={rnn}True))",
        f"Do(lambda x, f: stepped(f, x), f=nn.{kind}Cell({c}, {WIDTH}, bias={d.flag()}))",
    ]
    if layers * (1 + both) == 2 and not projected:
        forms += [f"Do(lambda x, state, f: f(x, {states})[0], 'state', f={rnn}True))"]
    return d.choice(forms)


def attention(d: Draw, c: int, sizes: Sequence[int]) -> str:
    heads = d.divisor(c)
    more = f"bias={d.flag()}, dropout={d.pick(0.0, 0.1)}, add_bias_kv={d.rare()}, add_zero_attn={d.rare()}"
    mha = f"nn.MultiheadAttention({c}, {heads}, {more}, batch_first=True)"
    weights = f"need_weights={d.flag()}, average_attn_weights={d.flag()}"
    cross = f"nn.MultiheadAttention({c}, {heads}, kdim={WIDTH}, vdim={WIDTH}, batch_first=True)"
    heads_of = f"x.unflatten(-1, ({heads}, -1)).transpose(1, 2)"
    return d.pick(
        f"attend({mha}, {weights})",
        f"first(attend({mha}, average_attn_weights=False))",
        f"Do(lambda x, mask, f: f(x, x, x, key_padding_mask=~mask, {weights})[0], 'mask', f={mha})",
        f"Do(lambda x, f: f(x, x, x, attn_mask=causal(x), is_causal={d.flag()}, need_weights=False)[0], f={mha})",
        f"Do(lambda x, f: f(x, x, x, attn_mask=torch.ones(x.size(1), x.size(1)).triu(1) * -9)[0], f={mha})",
        f"Do(lambda x, memory, f: f(x, memory, memory, {weights})[0], 'memory', f={cross})",
        f"Do(lambda x: (lambda q: functional.scaled_dot_product_attention(q, q.flip(-1), q))({heads_of})"
        ".transpose(1, 2).flatten(2))",
        f"Do(lambda x: (lambda q: functional.scaled_dot_product_attention(q, q, q, is_causal=True, scale=0.3))"
        f"({heads_of}).transpose(1, 2).flatten(2))",
        f"Do(lambda x, mask: (lambda q: functional.scaled_dot_product_attention(q, q, q, mask[:, None, None]))"
        f"({heads_of}).transpose(1, 2).flatten(2), 'mask')",
        "Do(lambda x: torch.einsum('btw,bsw->bts', x, x).softmax(-1) @ x)",
    )


def transformer(d: Draw, c: int, sizes: Sequence[int]) -> str:
    activation = d.pick("'relu'", "'gelu'", "functional.silu", "nn.Tanh()")
    options = (
        f"{c}, {d.divisor(c)}, {d.pick(8, 12)}, activation={activation}, "
        f"norm_first={d.flag()}, bias={d.random() < 0.8}, layer_norm_eps={d.pick(1e-5, 1e-3)}, batch_first=True"
    )
    encoder, decoder = f"nn.TransformerEncoderLayer({options})", f"nn.TransformerDecoderLayer({options})"
    forms = [
        encoder,
        f"nn.TransformerEncoder({encoder}, 2, norm=nn.LayerNorm({c}))",
        f"Do(lambda x, mask, f: f(x, src_key_padding_mask=~mask), 'mask', f={encoder})",
        f"Do(lambda x, mask, f: f(x, src_key_padding_mask=~mask), 'mask', f=nn.TransformerEncoder({encoder}, 2))",
        f"Do(lambda x, f: f(x, causal(x), is_causal={d.flag()}), f={encoder})",
        f"Do(lambda x, f: f(x, x.flip(1)), f={decoder})",
        f"Do(lambda x, f: f(x, x * 0.5, tgt_mask=causal(x)), f=nn.TransformerDecoder({decoder}, 2))",
    ]
    if c == WIDTH:
        forms += [
            f"Do(lambda x, memory, f: f(x, memory), 'memory', f={decoder})",
            f"Do(lambda x, memory, f: f(memory, x), 'memory', f=nn.Transformer({c}, 2, 1, 1, 12, batch_first=True))",
        ]
    return d.choice(forms)


def masked(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """What a mask or lengths, or indices, say of a sequence."""
    inside = "(torch.arange(x.size(1)) < lengths[:, None])"
    return d.pick(
        "Do(lambda x, mask: x.masked_fill(~mask[..., None], 0.0), 'mask')",
        "Do(lambda x, mask: torch.where(mask[..., None], x, x.mean(1, keepdim=True)), 'mask')",
        "Do(lambda x, mask: x.masked_fill(~mask[..., None], -torch.inf).softmax(1).nan_to_num(), 'mask')",
        "Do(lambda x, mask: x - (x * mask[..., None]).sum(1, True) / mask.sum(1)[:, None, None].clamp(min=1), 'mask')",
        f"Do(lambda x, lengths: x * {inside}[..., None], 'lengths')",
        "Do(lambda x, lengths: x + x[torch.arange(x.size(0)), lengths - 1][:, None], 'lengths')",
        "Do(lambda x, lengths: x.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, x.size(2))) + x, 'lengths')",
        f"Do(lambda x: x.index_select(-1, torch.tensor({[d.randrange(c) for _ in range(c)]})))",
        "Do(lambda x, memory: x + memory.mean(1, keepdim=True)[..., :1], 'memory')",
        "Do(lambda x: torch.cdist(x, x).neg().softmax(-1) @ x)",
        "Do(lambda x: torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), 1.0) + x)",
        "Do(lambda x: x.topk(2, -1).values.sum(-1, keepdim=True) + x)",
        "Do(lambda x: x.sort(1).values)",
        f"Do(lambda x: functional.one_hot(x.argmax(-1), {c}).to(x.dtype) + x)",
        "Do(lambda x: x.tril() + x.triu(1) * 0.5)",
        "Do(lambda x: x.logsumexp(1, keepdim=True) - x)",
        "Do(lambda x: x.permute(0, 2, 1).reshape(x.size(0), 2, -1, x.size(1)).sum(2).mT)",
        "Do(lambda x: functional.pad(x, (0, 0, 1, 2)))",
        "Do(lambda x: x.unflatten(-1, (2, -1)).transpose(1, 2).flatten(0, 1).unflatten(0, (-1, 2))"
        ".transpose(1, 2).flatten(2))",
        "Do(lambda x: x + torch.arange(x.size(1)).sin()[:, None])",
        "Do(lambda x, table: x + table[: x.size(1)], table=nn.Parameter(torch.randn(400, 1)))",
    )


def branch(d: Draw, c: int, sizes: Sequence[int]) -> str:
    return d.pick(
        "Do(lambda x: x[:, :9] if x.size(1) > 9 else x)",
        "Do(lambda x: x * 2 if x.size(0) >= 5 else x)",
        "Do(lambda x: x + 1 if x.size(1) % 2 else x)",
        "Do(lambda x: functional.pad(x, (0, 0, 0, 4)) if x.size(1) < 4 else x)",
    )


def embedding(d: Draw, c: int, sizes: Sequence[int]) -> str:
    padding = f"padding_idx={d.pick(None, 0, 3, -1)}"
    return d.pick(
        f"nn.Embedding({WORDS}, {WIDTH}, {padding})",
        f"nn.Embedding({WORDS}, {WIDTH})",
        f"Do(lambda x, f: f(x) * {WIDTH} ** 0.5, f=nn.Embedding({WORDS}, {WIDTH}, {padding}))",
        f"Do(lambda x: functional.one_hot(x, {WORDS}).float())",
        f"Do(lambda x, f: f(x) + f(x.flip(1)), f=nn.Embedding({WORDS}, {WIDTH}))",
        f"Do(lambda x, f: functional.linear(f(x), f.weight), f=nn.Embedding({WORDS}, {WIDTH}))",
        f"Do(lambda x, f: f(x % 5) * (x != 0)[..., None], f=nn.Embedding({WORDS}, {WIDTH}))",
    )


def bag(d: Draw, c: int, sizes: Sequence[int]) -> str:
    mode, padding = d.pick("sum", "mean", "max"), f"padding_idx={d.pick(None, None, 3)}"
    offsets = "torch.tensor([0, 2, 5])"
    return d.pick(
        f"nn.EmbeddingBag({WORDS}, {WIDTH}, mode={mode!r}, {padding})",
        f"Do(lambda x, f: f(x, per_sample_weights=(x % 3).float() - 0.5), "
        f"f=nn.EmbeddingBag({WORDS}, {WIDTH}, mode='sum', {padding}))",
        f"Do(lambda x, f: f(x.flatten(), {offsets}), f=nn.EmbeddingBag({WORDS}, {WIDTH}, mode={mode!r}))",
    )


def narrowed(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """A line of a sequence."""
    rnn = f"nn.{d.pick('LSTM', 'GRU', 'RNN')}({c}, 5, batch_first=True, bidirectional={d.flag()})"
    return d.pick(
        "Do(lambda x: x.mean(1))",
        "Do(lambda x: x[:, -1])",
        "Do(lambda x: torch.cat([x.amax(1), x[:, 0]], -1))",
        f"Do(lambda x, f: (lambda h: (h[0] if isinstance(h, tuple) else h)[-1])(f(x)[1]), f={rnn})",
        f"Do(lambda x, lengths, f: packed(f, x, lengths, {d.pick('h', 'c', 'hc')!r}), 'lengths', f={rnn})",
        "Do(lambda x, mask: (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1), 'mask')",
        f"Do(lambda x, f: (f(x).softmax(1) * x).sum(1), f=nn.Linear({c}, 1))",
    )


def flattened(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """A line of an image or a volume."""
    size, spatial_axes = c, tuple(range(2, 2 + len(sizes)))
    for number in sizes:
        size *= number
    grid = tuple(d.pick(1, 2) for _ in sizes)
    pooled = c
    for number in grid:
        pooled *= number
    n = len(sizes)
    return d.pick(
        f"Do(lambda x, f: f(x.flatten(1)), f=nn.Linear({size}, 6))",
        f"Do(lambda x, f: f(x.movedim(1, -1).flatten(1)), f=nn.Linear({size}, 6))",
        f"Do(lambda x: x.mean({spatial_axes}))",
        f"Do(lambda x: x.amax({spatial_axes}))",
        f"nn.Sequential(nn.AdaptiveAvgPool{n}d({grid}), nn.Flatten(), nn.Linear({pooled}, 6))",
        f"nn.Sequential(nn.AdaptiveMaxPool{n}d(1), nn.Flatten())",
    )


def rows(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """A sequence of an image or a volume."""
    forms = ["Do(lambda x: x.flatten(2).mT)", f"Do(lambda x: x.flatten(2)[..., :{WIDTH}])"]
    if len(sizes) == 2:
        forms += [
            "Do(lambda x: x.mean(2).mT)",
            "Do(lambda x: x.permute(0, 3, 1, 2).flatten(2))",
            f"Do(lambda x, f: f(x).mT, f=nn.Unfold({d.each(2, 1, 2)}, stride={d.pick(1, 2)}, padding={d.pick(0, 1)}))",
        ]
    return d.choice(forms)


def image(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """An image of a sequence."""
    return d.pick("Do(lambda x: x[:, None])", "Do(lambda x: x.mT.unflatten(1, (2, -1)))")


def slices(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """An image of a volume."""
    return d.pick("Do(lambda x: x.flatten(1, 2))", "Do(lambda x: x.amax(2))", "Do(lambda x: x[:, :, 0])")


def repeated(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """A sequence of a line."""
    return d.pick(
        "Do(lambda x: x[:, None])",
        "Do(lambda x: x[:, None].expand(-1, 3, -1))",
        "Do(lambda x: x.unflatten(1, (2, -1)))",
    )


def cell(d: Draw, c: int, sizes: Sequence[int]) -> str:
    return d.pick(
        f"Do(lambda x, f: f(x), f=nn.LSTMCell({c}, 6, bias={d.flag()}))",
        f"nn.GRUCell({c}, 6, bias={d.flag()})",
        f"Do(lambda x, f: f(x, f(x, f(x))), f=nn.GRUCell({c}, 6))",
        f"nn.RNNCell({c}, 6, nonlinearity='relu')",
        f"nn.BatchNorm1d({c})",
        f"nn.GroupNorm({d.divisor(c)}, {c})",
    )


ON: dict[str, dict[str, Sequence[Maker]]] = {  # kind of value: group of layers: makers
    "sequence": {
        **{group: tuple(map(turned, makers)) for group, makers in SPATIAL.items()},
        "linear": (linear,),
        "norm": (last_norm, *map(turned, SPATIAL["norm"])),
        "activation": (activation,),
        "recurrent": (recurrent,),
        "attention": (attention,),
        "transformer": (transformer,),
        "masked": (masked,),
        "functional": (turned(spatial),),
        "branch": (branch,),
        "stopped": (stopped_rows, stopped_rows, turned(stopped)),
    },
    "image": {**SPATIAL, "blocks": (blocks,), "activation": (activation,), "functional": (spatial,)},
    "volume": {**SPATIAL, "activation": (activation,), "functional": (spatial,)},
    "line": {
        "linear": (linear,),
        "norm": (last_norm,),
        "activation": (activation,),
        "cell": (cell,),
        "stopped": (stopped_rows,),
    },
    "tokens": {},
}
TO: dict[str, dict[str, Sequence[Maker]]] = {  # kind of value: kind that it becomes: makers
    "sequence": {"line": (narrowed,), "image": (image,)},
    "image": {"line": (flattened,), "sequence": (rows,)},
    "volume": {"line": (flattened,), "sequence": (rows,), "image": (slices,)},
    "line": {"sequence": (repeated,)},
    "tokens": {"sequence": (embedding,), "line": (bag,)},
}
