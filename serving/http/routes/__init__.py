"""The routes, a module for each resource.

They know nothing of how work is done; each reads a request, calls a part of the server and writes an answer. Begin
with `predict`.
"""
