//! Generates the database's interface from its protocol description.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors =
        protox::compile(["proto/database.proto", "proto/neighbour.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
