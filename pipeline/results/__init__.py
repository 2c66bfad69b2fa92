"""Results for people: how a change moves the scores, and the report's page with what differs in every run.

It may import `graph`, `storage` and `working_copy`.
"""
