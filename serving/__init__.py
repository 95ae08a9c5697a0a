"""The server: predictions over HTTP, refits in child processes, heads that are swapped under load.

It never imports torch; what needs it runs in a child process. Begin with `app`, which makes all parts and joins them,
then `settings`.
"""
