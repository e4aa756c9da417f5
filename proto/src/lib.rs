//! The gRPC interface of weftd: `weft/v1/*.proto`, and what is generated from it. No logic lives here.

/// `weft.v1`: messages, client and server.
pub mod v1 {
    #![allow(missing_docs)]
    #![allow(clippy::large_enum_variant)]
    tonic::include_proto!("weft.v1");
}

/// The encoded `FileDescriptorSet` of `weft.v1`: for server reflection, and for JSON and YAML by `prost-reflect`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weft.bin"));
