#[midge_job::main]
async fn resize(width: u32) -> u32 {
    width
}
