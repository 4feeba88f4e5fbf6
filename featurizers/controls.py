"""Controls: what a method's score would be if what makes it special were left to chance.

A control is a method named METHOD:CONTROL.

    random     das: a random rotation that stays as it is.  An SAE: random directions, as many as it has latents,
               of which as many fire on a vector as of its own
    permuted   an SAE with its decoder's rows permuted: what fires is its own, what it writes is another latent's
    features   as many random features as the method's own mask selected, all patched
    shuffled   the method itself, trained on pairs whose labels were shuffled among those of their kind

random@SIZE, so many random dimensions all patched, is the control of every METHOD@SIZE.
"""

import dataclasses

from data.batches import PairBatch
from featurizers.sae import CHUNK
from imports import torch
from saes.autoencoder import SparseAutoencoder


def permutation(n_latents: int, seed: int) -> torch.Tensor:
    """[n_latents] int64: which row of the decoder each latent writes."""
    return torch.randperm(n_latents, generator=torch.Generator().manual_seed(seed))


def random_sae(sae, x_RD: torch.Tensor, l0: float, seed: int) -> SparseAutoencoder:
    """Random unit directions, as many as an SAE has latents; a vector's k = l0 largest projections fire.

    x_RD: vectors of the raw residual; the projections are of what the SAE reads, less its mean over them.  The decoder
    is the encoder's transpose, times the number that makes its reconstructions of these vectors best.
    """
    generator = torch.Generator().manual_seed(seed)
    W_dec = torch.randn(sae.n_latents, sae.d_model, generator=generator).to(x_RD.device)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    made = SparseAutoencoder(
        family="random",
        layer=sae.layer,
        path=sae.path,
        W_enc=W_dec.T.contiguous(),
        b_enc=torch.zeros(sae.n_latents, device=x_RD.device),
        W_dec=W_dec,
        b_dec=torch.zeros(sae.d_model, device=x_RD.device),
        subtract_b_dec=True,
        centred=sae.centred,
        normalised=sae.normalised,
        k=max(1, round(l0)),
    )
    with torch.no_grad():
        seen_RD, _ = made.prepare(x_RD)
        made.b_dec = seen_RD.mean(0)
        written_RD = torch.cat([made.encode(chunk)[0] @ W_dec for chunk in x_RD.split(CHUNK)])
        made.W_dec = W_dec * ((written_RD * (seen_RD - made.b_dec)).sum() / written_RD.square().sum())
    return made


def shuffled_labels(pairs: PairBatch, seed: int) -> PairBatch:
    """The same pairs, each with the label of another of its kind."""
    generator = torch.Generator().manual_seed(seed)
    label = pairs.label.clone()
    for kind in pairs.kind.unique():
        (of_kind,) = (pairs.kind == kind).nonzero(as_tuple=True)
        label[of_kind] = pairs.label[of_kind[torch.randperm(len(of_kind), generator=generator)]]
    return dataclasses.replace(pairs, label=label)


def random_features(n_active: int, n_selected: int, seed: int) -> torch.Tensor:
    """[n_active] bool: as many random features as a mask selected, of those that it could have."""
    chosen = torch.randperm(n_active, generator=torch.Generator().manual_seed(seed))[:n_selected]
    return torch.zeros(n_active, dtype=torch.bool).index_fill(0, chosen, value=True)
