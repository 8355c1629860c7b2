"""The parent of the service's own processes: what `modelry up` runs. A plain loop over signals and children.

__main__    the start: settings, home, database, first key; errors as two lines for people
door        the listening socket, and whether the service answers on it
child       one process that is started again when it ends
service     the loop, and the orderly end
"""
