"""The command line, one file per noun. It talks to the service through `modelry.client` like anybody else."""
