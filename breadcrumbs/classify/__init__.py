"""What `breadcrumbs predict` does: images of any number, classified here or by a server, into one form.

It knows nothing of how a prediction is computed. Begin with `classify`.
"""
