"""From images to a bundle, and from feature rows to a new head.

It knows nothing of HTTP or of the store. Begin with `config`, which lists all that can be asked for, then `run.fit`
for training and `refit.refit` for a new head; `emanate` is the paper's mathematics.
"""
