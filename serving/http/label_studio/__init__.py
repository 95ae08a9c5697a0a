"""What Label Studio is to this server: its labeling configs and webhooks as they come, and the images that it hosts.

It knows nothing of models, or of how labels are kept. Begin with `bodies`, then `images`.
"""
