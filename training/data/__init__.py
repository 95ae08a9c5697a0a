"""Which images there are, of which class, and how they become batches.

It knows nothing of networks or losses. Begin with `dataset`, which loads the two splits of a run, then `loader`.
"""
