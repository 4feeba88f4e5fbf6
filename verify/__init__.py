"""Find out, on the machine at hand, whether the fast path is exact: against plain hooks, before hours are spent."""
