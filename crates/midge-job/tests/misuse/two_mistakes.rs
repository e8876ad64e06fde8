#[midge_job::main(queue = "photos")]
async fn resize(width: u32, height: u32) -> u32 {
    width * height
}
