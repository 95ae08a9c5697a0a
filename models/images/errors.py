"""What can be wrong with an image file. It knows nothing of how files are read."""

from breadcrumbs.models.errors import BreadcrumbsError


class ImageError(BreadcrumbsError):
    """The bytes are not an image that can be decoded."""


class ImageTooLarge(ImageError):
    """The image has more pixels, scans or segments than the limit; found before anything is decoded."""
