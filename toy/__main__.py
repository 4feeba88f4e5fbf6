"""Build the toy world under saved_models/toy, if it is not there: python -m toy."""

from common.paths import HOME
from imports import torch
from toy.world import ensure

torch.set_num_threads(1)
print(ensure(HOME / "saved_models" / "toy"))
