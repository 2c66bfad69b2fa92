"""A network applied to the user's own pictures: from the command line, and on a page."""
