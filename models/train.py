"""Train a network and write its checkpoint: `python -m models.train sunspots|digits|…|all`.

One thread and a fixed seed, so that the same machine makes the same checkpoint again.
"""

import argparse
from importlib import import_module

import numpy as np
import torch
from safetensors.torch import save_file

NAMES = ("sunspots", "digits", "digit_strips", "digit_images", "gpt", "llama", "translator")


def train(name: str) -> dict[str, float]:
    """Fit the network of that name, write its checkpoint, and score the checkpoint as read again."""
    network = import_module(f"models.{name}")
    torch.manual_seed(0)
    module = network.fit()

    network.CHECKPOINT.parent.mkdir(exist_ok=True)
    unfinished = network.CHECKPOINT.with_suffix(".unfinished")
    save_file(module.state_dict(), unfinished)
    unfinished.replace(network.CHECKPOINT)

    trained, _, _ = network.make()

    @torch.inference_mode()
    def predict(*x: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        made = trained(*map(torch.from_numpy, x))
        return made.numpy() if isinstance(made, torch.Tensor) else tuple(y.numpy() for y in made)

    return network.score(predict)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*NAMES, "all"])
    name = parser.parse_args().name
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for each in NAMES if name == "all" else [name]:
        print(each, *(f"{key}={value:.4f}" for key, value in train(each).items()))


if __name__ == "__main__":
    main()
