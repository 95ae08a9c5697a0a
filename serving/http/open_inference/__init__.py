"""The Open Inference Protocol (`/v2`): its requests, answers, tensors and metadata.

It knows nothing of how a prediction is computed. Begin with `request`.
"""
