"""Download RAVEL's cities, GPT-2 and the published SAEs; each file resumed and checked."""
