"""Refits on the server: started, queued, run in a child process, judged, and let go live.

It knows nothing of HTTP or of how a head is computed. Begin with `jobs`, then `worker`, which runs them one by one.
"""
