"""The toy world: a small GPT-2 that knows 120 cities, and SAEs for it."""
