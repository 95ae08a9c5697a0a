"""What a trained classifier is: its images, features, backbone, head and bundle, in memory and on disk.

It knows nothing of how one is trained or served, and never imports torch when it is loaded. Begin with `bundle`, the
folder that training writes and the server reads, then `head`.
"""
