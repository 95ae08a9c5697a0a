"""A new head from feature snapshots, without images and without the backbone.

It knows nothing of files on a server or of who asked. Begin with `refit`; `files` reads its inputs and writes its
outputs.
"""
