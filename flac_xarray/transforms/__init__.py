"""Reversible pairs between pixels and FLAC samples (docs/format.md, section 4).

Strategy: pure NumPy on whole arrays, no FLAC library. Each module is one idea: `values`
and `scaling` (pixels to integers that are near each other; `mapping` chooses), `bands`
(planes from planes), `predict` (rows from rows), `words` (wide integers in narrow
channels), `masks` and `streams` (counts, palettes and residuals as side data), `side`
(compressed pieces), `plan` (which of them a tile uses, as text in its comments), and
`pipeline` (all in their order).
"""
