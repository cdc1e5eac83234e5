"""Many devices in one process: the supervisor's own loops, without an engine and without boards."""
