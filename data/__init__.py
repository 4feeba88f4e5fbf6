"""Facts, prompts and counterfactual pairs."""
