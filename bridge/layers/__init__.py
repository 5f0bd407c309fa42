"""The few layers and optimizers Keras lacks, each registered, so that a saved model says which it needs:
`import bridge.layers` makes them known to `keras.saving.load_model`."""

from bridge.layers.control_flow import If, Shared
from bridge.layers.generation import Cache, Generator
from bridge.layers.loading import load_model
from bridge.layers.loops import Loop, Scan
from bridge.layers.pieces import Past, reset_states, stateful_layers, without_frames
from bridge.layers.recurrent import ACTIVATIONS, Cell, Function, Recurrent, function
from bridge.optimizers.rules import TorchAdam, TorchRMSprop, TorchSGD
from bridge.optimizers.schedules import CosineAnnealing
from bridge.package import PACKAGE

__all__ = [
    "ACTIVATIONS",
    "PACKAGE",
    "Cache",
    "Cell",
    "CosineAnnealing",
    "Function",
    "Generator",
    "If",
    "Loop",
    "Past",
    "Recurrent",
    "Scan",
    "Shared",
    "TorchAdam",
    "TorchRMSprop",
    "TorchSGD",
    "function",
    "load_model",
    "reset_states",
    "stateful_layers",
    "without_frames",
]
