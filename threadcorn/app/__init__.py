"""The entry layer: composes the server and finds the application.

base         BaseApplication and Application: embedding, configuration, composition, run()
wsgiapp      WSGIApplication: the application behind the command
loader       MODULE:APP to a WSGI callable
configfile   the Python config file
facts        what the settings claim about this machine
"""

from __future__ import annotations
