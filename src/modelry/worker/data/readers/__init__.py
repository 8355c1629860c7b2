"""One file per kind of source; each turns files into a `Draft`."""
