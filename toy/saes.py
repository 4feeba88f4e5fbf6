"""Small SAEs for the toy world, trained the way each publisher's were.

openai         TopK on normalised residuals, squared error
bloom          ReLU on centred residuals, squared error + L1
apollo-e2e     ReLU on centred residuals, KL of the model's output + L1
apollo-e2e+ds  the same + squared error of the residuals downstream
"""

from __future__ import annotations

from dataclasses import dataclass

from common.progress import bar
from imports import functional, torch
from saes.autoencoder import SparseAutoencoder

RATIO = 4  # latents per dimension
K = 8  # of the TopK SAEs
VECTOR_STEPS, VECTORS = 400, 256  # steps and batch of the two kinds that see vectors only
MODEL_STEPS, SEQUENCES = 200, 24  # of the two kinds that see the model's output
LR = 3e-3
L1 = {"bloom": 0.06, "apollo-e2e": 0.015, "apollo-e2e+ds": 0.02}
DOWNSTREAM = 1.0


@dataclass
class Weights:
    """Trainable weights of one SAE, or of one per layer stacked in front."""

    W_enc: torch.Tensor  # [.., d_model, n_latents]
    b_enc: torch.Tensor  # [.., 1, n_latents]
    W_dec: torch.Tensor  # [.., n_latents, d_model]
    b_dec: torch.Tensor  # [.., 1, d_model]

    @classmethod
    def start(cls, mean, n_latents: int, generator) -> Weights:
        """Decoder rows random of length 1, the encoder their transpose, b_dec the data's mean [.., 1, d_model]."""
        shape = (*mean.shape[:-2], n_latents, mean.shape[-1])
        W_dec = functional.normalize(torch.randn(shape, generator=generator), dim=-1)
        weights = cls(W_dec.transpose(-1, -2).clone(), torch.zeros(*shape[:-2], 1, n_latents), W_dec, mean.clone())
        for tensor in weights.tensors():
            tensor.requires_grad_(True)
        return weights

    def tensors(self) -> list[torch.Tensor]:
        return [self.W_enc, self.b_enc, self.W_dec, self.b_dec]

    def sae(self, family: str, layer: int, **conventions) -> SparseAutoencoder:
        """The SAE of a layer, of these weights for it alone or for all."""
        own = (t[layer] if t.ndim == 3 else t for t in self.tensors())
        W_enc, b_enc, W_dec, b_dec = (t.detach().contiguous() for t in own)
        return SparseAutoencoder(family, layer, "", W_enc, b_enc[0], W_dec, b_dec[0], **conventions)


def train_on_vectors(x_LND, generator, progress: bool) -> dict[str, list[SparseAutoencoder]]:
    """The openai and bloom kinds at all layers at once.

    x_LND: raw residuals, [layers, vectors, d_model].  Returns {release: one SAE per layer}.
    """
    centred = x_LND - x_LND.mean(-1, keepdim=True)
    data = {"openai": centred / (centred.std(-1, keepdim=True) + 1e-5), "bloom": centred}
    # bloom's vectors are brought to unit scale for training
    scale = data["bloom"].pow(2).mean((1, 2), keepdim=True).sqrt()
    data["bloom"] = data["bloom"] / scale
    n_latents = RATIO * x_LND.shape[-1]
    weights = {name: Weights.start(x.mean(1, keepdim=True), n_latents, generator) for name, x in data.items()}
    optimizer = torch.optim.Adam([t for w in weights.values() for t in w.tensors()], lr=LR)
    for _ in bar(range(VECTOR_STEPS), desc="toy: SAEs on vectors", disable=not progress):
        rows = torch.randint(x_LND.shape[1], (VECTORS,), generator=generator)
        loss = 0.0
        for name, w in weights.items():
            x = data[name][:, rows]
            pre = (x - w.b_dec) @ w.W_enc + w.b_enc
            if name == "openai":
                top = pre.topk(K, dim=-1)
                pre = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
            z = pre.relu()
            loss = loss + (z @ w.W_dec + w.b_dec - x).pow(2).sum(-1).mean(-1).sum()
            if name == "bloom":
                loss = loss + L1[name] * x.shape[-1] ** 0.5 * z.sum(-1).mean(-1).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for w in weights.values():
                w.W_dec.copy_(functional.normalize(w.W_dec, dim=-1))
    bloom = weights["bloom"]
    with torch.no_grad():  # back to the data's own scale: latents and biases grow with it, directions stay
        bloom.b_enc.mul_(scale)
        bloom.b_dec.mul_(scale)
    layers = range(len(x_LND))
    return {
        "openai": [weights["openai"].sae("openai", i, subtract_b_dec=True, normalised=True, k=K) for i in layers],
        "bloom": [bloom.sae("bloom", i, subtract_b_dec=True, centred=True) for i in layers],
    }


def train_end_to_end(after, x_NLD, layer: int, generator, done) -> dict[str, SparseAutoencoder]:
    """The two Apollo kinds at one layer, trained side by side.

    after: function of residuals [B, L, d_model] after this block -> (logits [B, L, vocabulary],
    residuals after each later block).  x_NLD: raw residuals of whole prompts.
    """
    releases = ("apollo-e2e", "apollo-e2e+ds")
    flat = (x_NLD - x_NLD.mean(-1, keepdim=True)).flatten(0, 1)
    weights = {
        name: Weights.start(0 * flat.mean(0, keepdim=True), RATIO * flat.shape[-1], generator) for name in releases
    }
    optimizer = torch.optim.Adam([t for w in weights.values() for t in w.tensors()], lr=LR)
    for _ in range(MODEL_STEPS):
        x = x_NLD[torch.randint(len(x_NLD), (SEQUENCES,), generator=generator)]
        with torch.no_grad():
            wanted, residuals = after(x)
            wanted = wanted.log_softmax(-1)
        mean = x.mean(-1, keepdim=True)
        loss, spliced = 0.0, []
        for name, w in weights.items():
            z = ((x - mean) @ w.W_enc + w.b_enc).relu()
            spliced.append(z @ functional.normalize(w.W_dec, dim=-1) + w.b_dec + mean)
            loss = loss + L1[name] * z.sum(-1).mean()
        logits, later = after(torch.cat(spliced))
        for got in logits.log_softmax(-1).chunk(2):
            loss = loss + functional.kl_div(got, wanted, log_target=True, reduction="none").sum(-1).mean()
        for got, true in zip(later, residuals, strict=True):
            error = (got.chunk(2)[1] - true).pow(2).sum(-1) / true.pow(2).sum(-1)
            loss = loss + DOWNSTREAM * error.mean() / len(later)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        done.update(1)
    return {name: w.sae("apollo", layer, subtract_b_dec=False, centred=True) for name, w in weights.items()}
