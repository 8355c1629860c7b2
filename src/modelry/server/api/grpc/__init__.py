"""The Open Inference Protocol over gRPC, on a port of its own. Importing this package does not import `grpc`."""
