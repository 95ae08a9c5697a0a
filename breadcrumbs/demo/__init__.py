"""Learning from use, once, from a folder of photos to a better head.

It knows only public interfaces: commands, routes, and where the embedded images are. Begin with `demo`.
"""
