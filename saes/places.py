"""Where SAEs are kept on this machine; needs no torch, so that downloads do without it."""

from pathlib import Path

from saes.names import hook_point, is_own
from saes.releases import RELEASES, Release
from saes.source import find

PLACES = {"openai": "{layer}.pt", "apollo": "layer{layer:02d}", "bloom": "{hook}"}  # family -> the publisher's own name


def release_named(name: str) -> Release:
    """A published release, or what a user's own SAE ``sae:..`` amounts to.  Raises UserError if that is broken."""
    return Release(name, (find(name).layer,)) if is_own(name) else RELEASES[name]


def locate(release: str, root: str | Path, layer: int, n_layers: int) -> Path:
    """Where a release's SAE of this layer is kept: ROOT/RELEASE/ and then the publisher's own name.

    A user's own SAE stays in its folder; at another layer than its own there is none.
    """
    if is_own(release):
        source = find(release)
        return source.folder if layer == source.layer else source.folder / f"no SAE of layer {layer}"
    place = PLACES[RELEASES[release].family]
    return Path(root) / release / place.format(layer=layer, hook=hook_point(layer, n_layers))
