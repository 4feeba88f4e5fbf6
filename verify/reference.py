"""The reference: what a model answers to patched prompts, by plain PyTorch hooks on whole prompts, one at a time.

It shares nothing with the fast path but the model and where its layers are: no cache, no batch, no padding, no
attention mask, no packed product, no series.
"""

from collections.abc import Callable

from data.prompts import Prompts
from imports import torch
from models import Subject


class TwoPasses:
    """Two full forward passes for each pair: one reads the source's vector, the other patches the base's.

    layer: the patch replaces the residual after it, at each prompt's own position.
    """

    def __init__(self, subject: Subject, prompts: Prompts, layer: int):
        self.model, self.prompts, self.device = subject.model, prompts, subject.device
        self.module = subject.model.get_submodule(subject.structure.layers_path)[layer]

    def logits(self, base: int, source: int, patch: Callable):
        """[vocabulary] in fp32 after the patch, differentiable in what `patch` uses.

        base, source: rows of the prompts.  patch: function of the two vectors [D], fp32, that gives the new one.
        """
        seen = []

        def read(_module, _arguments, output) -> None:
            seen.append(_residual(output)[0, self.prompts.rows[source].at].float())

        def write(_module, _arguments, output):
            x_1TD, at = _residual(output).clone(), self.prompts.rows[base].at
            x_1TD[0, at] = patch(x_1TD[0, at].float(), seen[0]).to(x_1TD.dtype)
            return x_1TD if torch.is_tensor(output) else (x_1TD, *output[1:])

        with torch.no_grad():
            self._run(source, read)
        return self._run(base, write)

    def _run(self, row: int, hook: Callable):
        tokens_1T = torch.tensor([self.prompts.rows[row].tokens], device=self.device)
        handle = self.module.register_forward_hook(hook)
        try:
            return self.model(input_ids=tokens_1T, use_cache=False).logits[0, -1].float()
        finally:
            handle.remove()


def _residual(output):
    return output if torch.is_tensor(output) else output[0]
