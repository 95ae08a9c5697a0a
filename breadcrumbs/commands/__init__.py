"""The commands, a module for each group: a few lines around what does the work.

They know nothing of how the work is done. Begin with `train`; `breadcrumbs.cli` puts them together.
"""
