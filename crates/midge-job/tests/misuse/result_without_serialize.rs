struct Size {
    _width: u32,
}

#[midge_job::main]
fn resize(width: u32) -> Size {
    Size { _width: width }
}
