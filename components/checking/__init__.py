"""One check of a whole project before anything of it runs. No step imports it: each asks for its verdict."""
