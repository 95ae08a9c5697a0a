"""The results of a run or a refit as pages and pictures that need no other file.

It knows nothing of how anything was measured. Begin with `run_page` or `refit_page`.
"""
