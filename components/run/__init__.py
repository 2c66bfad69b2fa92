"""What every step shares with its run: typed signatures, params, errors, files."""
