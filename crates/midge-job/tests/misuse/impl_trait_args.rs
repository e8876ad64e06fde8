#[midge_job::main]
fn resize(width: impl Into<u32>) -> u32 {
    width.into()
}
