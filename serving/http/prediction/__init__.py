"""What a predict request brings and may ask, and its answer.

It knows nothing of how scores are computed, or of the Open Inference Protocol. Begin with `predictions`.
"""
