"""The taxonomy that goes with a data set: read from its file, and checked against the classes.

It knows nothing of what a taxonomy is used for.
"""

from dataclasses import replace
from pathlib import Path

from breadcrumbs.models import taxonomy
from breadcrumbs.models.files import read_regular
from breadcrumbs.training.data.split import Data, DataError


def with_taxonomy(data: Data, path: Path | None) -> Data:
    """Return a data set with its taxonomy.

    Args:
        data: whose classes must each have a place.
        path: of the CSV file; None: there is none.

    Raises:
        DataError: the file cannot be read.
        TaxonomyError: it is damaged, or has no place for a class.
    """
    if path is None:
        return data
    try:
        text = read_regular(path)
    except OSError as error:
        raise DataError(f"--taxonomy {path}: cannot be read ({error.strerror}); name a CSV file") from error
    taxonomy.parse(text).check(data.classes)
    return replace(data, taxonomy=text)
