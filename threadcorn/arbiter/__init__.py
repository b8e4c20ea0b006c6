"""The arbiter: keeps workers alive, and does nothing that one of them could corrupt.

arbiter         the loop: waits, tells the supervisor (policy/supervisor.py) what happened, does what it says
premises        what slots own: shards, berths, scoreboard; steering and the last gate
worker_handle   a worker as the arbiter sees it
child           the first moments of a worker, between fork and its own code
generations     settings, application and access log of each generation
upgrade         a successor arbiter, and being one
nameplate       pid file and ready descriptor
orders          signals as the supervisor's words
hooks           calling what the user gave us
notes           sentences for the log
"""

from __future__ import annotations
