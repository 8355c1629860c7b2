"""Generated from health.proto by scripts/messages.py; edit that file."""

from google.protobuf import descriptor_pool, message_factory

DESCRIPTOR = descriptor_pool.DescriptorPool().AddSerializedFile(
    b'\n\x0chealth.proto\x12\x0egrpc.health.v1".'
    b'\n\x12HealthCheckRequest\x12\x18\n\x07service\x18'
    b'\x01 \x01(\tR\x07service"\xb1\x01\n\x13HealthCheckRe'
    b'sponse\x12I\n\x06status\x18\x01 \x01(\x0e21.grpc.he'
    b'alth.v1.HealthCheckResponse.Serv'
    b'ingStatusR\x06status"O\n\rServingStat'
    b'us\x12\x0b\n\x07UNKNOWN\x10\x00\x12\x0b\n\x07SERVING\x10\x01\x12\x0f\n\x0b'
    b'NOT_SERVING\x10\x02\x12\x13\n\x0fSERVICE_UNKNOWN'
    b'\x10\x032\xae\x01\n\x06Health\x12P\n\x05Check\x12".grpc.he'
    b'alth.v1.HealthCheckRequest\x1a#.grp'
    b'c.health.v1.HealthCheckResponse\x12'
    b'R\n\x05Watch\x12".grpc.health.v1.Health'
    b'CheckRequest\x1a#.grpc.health.v1.He'
    b'althCheckResponse0\x01b\x06proto3'
)
globals().update(
    (name, message_factory.GetMessageClass(message))
    for name, message in DESCRIPTOR.message_types_by_name.items()
)
