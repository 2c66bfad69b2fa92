"""A network at work on one's own pictures: from the command line, and on a page."""
