"""What steps are made of: files are steps, folders are parts."""
