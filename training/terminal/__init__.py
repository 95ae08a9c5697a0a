"""What the commands print: tables, progress bars and a refit's events.

It knows nothing of how anything was measured. Begin with `tables`.
"""
