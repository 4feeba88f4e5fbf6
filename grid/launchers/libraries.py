"""Imported by the process from which workers are forked: the libraries are read once for all of them."""

import grid.work  # noqa: F401
from imports import torch, transformers

USED = (torch.nn, transformers.AutoModelForCausalLM, transformers.PreTrainedTokenizerFast)
