struct Resize {
    width: u32,
}

#[midge_job::main]
fn resize(args: Resize) -> u32 {
    args.width
}
