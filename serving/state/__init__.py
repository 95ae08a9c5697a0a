"""What the server keeps: heads, snapshots, the activation log, all as objects of one store.

It knows nothing of HTTP or of how anything is computed. Begin with `store`, then `live_head`.
"""
