"""Recurrent layers: the order of their gates in torch, ONNX and Keras, their states, and our operators' names."""

from __future__ import annotations

from dataclasses import dataclass

GATES = {  # as each stacks their blocks: i input, f forget, g cell, o output; z update, r reset, n new
    ("LSTM", "torch"): ("i", "f", "g", "o"),
    ("LSTM", "onnx"): ("i", "o", "f", "g"),
    ("LSTM", "keras"): ("i", "f", "g", "o"),
    ("GRU", "torch"): ("r", "z", "n"),
    ("GRU", "onnx"): ("z", "r", "n"),
    ("GRU", "keras"): ("z", "r", "n"),
    ("RNN", "torch"): ("n",),
    ("RNN", "onnx"): ("n",),
    ("RNN", "keras"): ("n",),
}
STATES = {"LSTM": ("h", "c"), "GRU": ("h",), "RNN": ("h",)}


def gate_order(mode: str, have: str, want: str) -> tuple[int, ...]:
    """Which blocks of what `have` stacks come one after the other for `want`: "torch", "onnx" or "keras"."""
    return tuple(GATES[mode, have].index(gate) for gate in GATES[mode, want])


@dataclass(frozen=True)
class RecurrentOp:
    """An operator of ours that is a recurrent layer, or one step of it; a projected one says its direction itself."""

    mode: str
    directions: int = 1
    given_state: bool = False
    is_cell: bool = False
    is_projected: bool = False

    @property
    def name(self) -> str:
        both, end = "Bi" if self.directions == 2 else "", "From" if self.given_state else ""
        return f"{both}{self.mode}{'P' if self.is_projected else ''}{'Cell' if self.is_cell else end}"


LAYERS = tuple(RecurrentOp(mode, n, given) for mode in STATES for n in (1, 2) for given in (False, True))
CELLS = tuple(RecurrentOp(mode, given_state=True, is_cell=True) for mode in STATES)
PROJECTED = tuple(RecurrentOp("LSTM", given_state=given, is_projected=True) for given in (False, True))
RECURRENT = {op.name: op for op in (*LAYERS, *CELLS, *PROJECTED)}
