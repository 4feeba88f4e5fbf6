"""Where Neuronpedia shows a latent of a published SAE; imports nothing heavy."""

from saes.releases import RELEASES

# {next}: layer + 1, as blocks.{L+1}.hook_resid_pre is the residual after layer L.  Which release and hook point is
# which of Neuronpedia's sources is said by SAELens's list (sae_lens/pretrained_saes.yaml, key `neuronpedia`; of Bloom's
# SAE at blocks.11.hook_resid_post it is 12-res-jb).
PAGES = {
    "openai": "https://www.neuronpedia.org/gpt2-small/{layer}-res_post_32k-oai/{index}",
    "apollo-e2e": "https://www.neuronpedia.org/gpt2-small/{next}-res_sle-ajt/{index}",
    "apollo-e2e+ds": "https://www.neuronpedia.org/gpt2-small/{next}-res_slefr-ajt/{index}",
    "bloom": "https://www.neuronpedia.org/gpt2-small/{next}-res-jb/{index}",
}


def page_of(method: str, layer: int, index: int) -> str | None:
    """The latent's page; None for what is not shown there: another method, or a layer of another run.

    What Neuronpedia shows of Apollo's SAEs is the same run as ours at the layers that `Release.mirrored` names.
    """
    if method not in PAGES:
        return None
    release = RELEASES[method]
    shown = release.mirrored if release.runs else release.layers
    return PAGES[method].format(layer=layer, next=layer + 1, index=index) if layer in shown else None
