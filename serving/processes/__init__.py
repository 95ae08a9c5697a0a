"""Child processes: started with limits, listened to, stopped; and their temporary folders.

It knows nothing of what the children do. Begin with `child`.
"""
