struct Size {
    _width: u32,
}

#[midge_job::main]
fn resize(width: u32) -> Result<Size, std::io::Error> {
    Ok(Size { _width: width })
}
