"""From images to scores: decoded, batched, and computed by ONNX Runtime.

It knows nothing of HTTP or of the store. Begin with `inference`, then `engine`.
"""
