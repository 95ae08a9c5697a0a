"""The client of the HTTP API, for scripts and the command line: `from breadcrumbs import Client`.

It knows nothing of what the server does. Begin with `client`; `calls` lists every request.
"""
