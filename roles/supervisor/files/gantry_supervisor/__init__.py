"""The host's side of the supervisor: it runs, watches, updates and removes the container.

Standard library only, and little of it, for it stays in memory: http.client alone would take 6 MB.
"""
