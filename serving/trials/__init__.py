"""Heads on trial beside the live one: who answers, what both say, what labels say of both, and when it ends.

It knows nothing of HTTP or of how a head is fitted. Begin with `trials`, then `evidence`, the sequential test.
"""
