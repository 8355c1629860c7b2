"""The parent of all workers on one machine: starts, reaps and reports them. No database, no secrets, no asyncio.

__main__   settings, signals, the warm parent
serving    the loop: orders come in over a Unix socket, workers end, time passes
roster     all workers, and what each order does to them
worker     one worker: alive, asked to stop, over a limit, ended
launch     the first acts of a new process
census     which processes belong to a worker, and their memory
"""
