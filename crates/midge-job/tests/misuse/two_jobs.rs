#[midge_job::main]
fn resize(width: u32) -> u32 {
    width
}

#[midge_job::main]
fn crop(width: u32) -> u32 {
    width
}
