"""How well SAEs reconstruct the experiment's vectors, and what splicing them in costs."""
