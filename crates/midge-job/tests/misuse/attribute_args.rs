#[midge_job::main(queue = "photos")]
fn resize(width: u32) -> u32 {
    width
}
