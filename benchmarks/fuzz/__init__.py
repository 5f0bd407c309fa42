"""Random graphs, files and modules, each of which has to end equal or be refused by name.

    python -m benchmarks.fuzz graphs --n 1000 --seed 0

A kind of case is a module here (`graphs`, `files`, `modules`) with a function `case(seed) -> workers.Case`.
"""
