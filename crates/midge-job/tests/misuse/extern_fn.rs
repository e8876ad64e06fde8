#[midge_job::main]
extern "C" fn resize(width: u32) -> u32 {
    width
}
