"""A decoder's blocks, head and products, computed on frozen parts."""
