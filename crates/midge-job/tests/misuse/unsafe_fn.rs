#[midge_job::main]
unsafe fn resize(width: u32) -> u32 {
    width
}
