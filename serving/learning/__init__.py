"""What the server learns from: answers that it remembers, and the examples that people make of them.

It knows nothing of HTTP, or of how a head is fitted to examples. Begin with `examples`, then `answers`.
"""
