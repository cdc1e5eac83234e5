"""The supervisor's HTTP API on the device, port 48484: the family's versions 1 and 2, and ours.

Routes by version (`v1`, `v2`, `own`), each a table of endpoints; they read a request and write an
answer, and services decide. Bodies and codes of the family's endpoints:
https://docs.balena.io/reference/supervisor/supervisor-api/.
"""

from gantry.supervisor.web.application import application
from gantry.supervisor.web.calls import Call, Endpoint, RefusalError, Supervisor

__all__ = ["Call", "Endpoint", "RefusalError", "Supervisor", "application"]
