"""The published SAE formats, and SAELens's, read into one `SparseAutoencoder`.

    from saes import load_sae

    sae = load_sae("openai", "saved_models/saes/openai/5.pt")
    latents, context = sae.encode(x)          # x [..., d_model], the raw Hugging Face residual
    x_hat = sae.decode(latents, context)      # back in the raw residual's own space

A publisher's format is one file with one class, and one entry of loading.FAMILIES; what was
published, where, and under which name it is kept, is in releases.py.
"""

import importlib

OFFERED = {
    **dict.fromkeys(("RELEASES", "locate"), "saes.releases"),
    **dict.fromkeys(("load_sae", "save_sae"), "saes.loading"),
    "SparseAutoencoder": "saes.autoencoder",
}


def __getattr__(name: str):
    """Import what the package offers when it is asked for: the files behind it import torch."""
    if name not in OFFERED:
        raise AttributeError(f"saes has no {name}")
    return getattr(importlib.import_module(OFFERED[name]), name)
