"""What all steps share in order to run: typed signatures, params, errors, files."""
