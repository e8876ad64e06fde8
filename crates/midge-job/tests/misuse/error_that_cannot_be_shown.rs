struct Broken;

#[midge_job::main]
fn resize(width: u32) -> Result<u32, Broken> {
    Ok(width)
}
