"""`python -m breadcrumbs`: the command line."""

from breadcrumbs.cli import main

if __name__ == "__main__":
    main()
