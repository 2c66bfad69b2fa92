"""The parts of the report: what was found, the tables and pictures made of it, and the pages that show them."""
