"""The messages of the gRPC door: generated, in a pool of their own."""
