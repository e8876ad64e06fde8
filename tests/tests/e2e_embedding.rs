//! midge inside an axum app: the example of `crates/midge`.

use std::io::Cursor;
use std::process::Command;

use image::{ImageFormat, Rgb, RgbImage};
use midge_tests::support::{Files, Modules, Process, app_program, host_program, http};
use rustix::process::Signal;

#[test]
fn an_app_with_midge_inside_answers_with_what_its_jobs_made() {
    let (modules, files) = (Modules::examples(), Files::new());
    let mut command = Command::new(app_program());
    command.env_clear().envs([
        ("MIDGE_LISTEN", "127.0.0.1:0".as_ref()),
        ("MIDGE_DB", files.path("app.db").as_os_str()),
        ("MIDGE_MODULES", modules.dir().as_os_str()),
        ("MIDGE_HOST", host_program().as_os_str()),
    ]);
    let mut app = Process::start("the example app", command);
    let url = app.says("where it listens", |output| {
        let (_, rest) = output.split_once("listening on ")?;
        Some(rest.split_once('\n')?.0.to_owned())
    });
    let host = url.replace("http://", "");
    let headers = [("Host", host.as_str())];

    let mut photo = Cursor::new(Vec::new());
    RgbImage::from_pixel(640, 480, Rgb([200, 30, 30])).write_to(&mut photo, ImageFormat::Jpeg).unwrap();
    let uploaded = http("POST", &format!("{url}/photos?width=160"), &headers, photo.get_ref());
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let job = uploaded.text().trim_end().to_owned();
    let thumbnail = http("GET", &format!("{url}/thumbnails/{job}"), &headers, b"");
    assert_eq!(thumbnail.status, 200, "{}", thumbnail.text());
    let thumbnail =
        image::load_from_memory_with_format(&thumbnail.body, ImageFormat::Jpeg).unwrap().to_rgb8();
    assert_eq!((thumbnail.width(), thumbnail.height()), (160, 120));
    assert!(thumbnail.get_pixel(80, 60)[0] > 180);

    // The API and the page are where the app mounted them.
    assert_eq!(
        http("GET", &format!("{url}/midge/v1/jobs/{job}"), &headers, b"").json()["state"],
        "completed"
    );
    let page = http("GET", &format!("{url}/midge"), &headers, b"");
    assert!(page.status == 200 && page.text().contains(&job), "{}", page.text());
    assert_eq!(http("GET", &format!("{url}/thumbnails/7"), &headers, b"").status, 400);

    app.signal(Signal::TERM);
    assert_eq!(app.ended().code(), Some(0), "{}", app.output());
}
