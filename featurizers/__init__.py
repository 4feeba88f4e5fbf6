"""The features that a mask selects from: neurons, DAS, SAE latents; and the registry of methods."""
