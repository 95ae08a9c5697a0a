"""One training run: two heads in one loop, a checkpoint after each epoch, a bundle at the end.

It knows nothing of where images come from or of HTTP. Begin with `fit`, which is the run from top to bottom.
"""
