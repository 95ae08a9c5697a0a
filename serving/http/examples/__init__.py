"""Labels, examples and remembered answers as the interface has them: what comes, and how they are shown.

It knows nothing of how they are kept. Begin with `labels`, then `schemas`.
"""
