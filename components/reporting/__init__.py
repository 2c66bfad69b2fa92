"""The parts of the report: the findings, the tables and pictures made from them, and the pages that show them."""
