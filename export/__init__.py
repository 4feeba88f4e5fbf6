"""Finished results in the formats of other programs: tables, data files, SAEBench's and MIB's own."""
