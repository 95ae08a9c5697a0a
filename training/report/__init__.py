"""What a run or a refit found, as pages and pictures that need nothing beside them.

It knows nothing of how anything was measured. Begin with `run_page` or `refit_page`.
"""
