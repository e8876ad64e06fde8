//! Downloads a file in pieces, hashes it, and has another job go on with that: memory is needed for a piece, not for the file.

use std::io::Read;

use midge_job::{Result, http};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// As much as comes in one call to the host.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    url: String,
    /// The module of the job that goes on; none where there is nothing more to do.
    then: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct File {
    bytes: u64,
    /// In hexadecimal digits.
    sha256: String,
}

#[midge_job::main]
fn download(args: Args) -> Result<File> {
    let mut answer = http::get(&args.url).send()?.error_for_status()?;
    let total = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = answer.read(&mut piece)?;
        if length == 0 {
            break;
        }
        hash.update(&piece[..length]);
        bytes += length as u64;
        midge_job::progress(bytes, total, "bytes");
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let file = File { bytes, sha256 };
    if let Some(module) = args.then {
        midge_job::enqueue(&module, &file)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use midge_job::Disposition;
    use midge_job::http::Kind;
    use midge_job::testing::Given;
    use midge_job::testing::http::Answer;

    use super::*;

    fn from(answer: Answer) -> Result<File> {
        let url = "https://files.example.com/a".to_owned();
        Given::new().http(move |_| answer.clone()).run(|| download(Args { url, then: None }))
    }

    #[test]
    fn a_file_of_many_pieces_is_hashed_as_a_whole() {
        let file = from(Answer::status(200).body(vec![b'a'; 1_000_000])).unwrap();
        // FIPS 180-2, appendix B.3.
        let sha256 = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0".to_owned();
        assert_eq!(file, File { bytes: 1_000_000, sha256 });
    }

    #[test]
    fn who_goes_on_is_given_what_the_file_is() {
        let given = Given::new().http(|_| Answer::status(200).body("abc"));
        let args = Args { url: "https://files.example.com/a".to_owned(), then: Some("unpack".to_owned()) };
        let seen = given.observe(|| download(args));
        let [next] = seen.enqueued() else { panic!("it is one job") };
        assert_eq!((next.module.as_str(), next.args::<File>().bytes), ("unpack", 3));
    }

    #[test]
    fn a_file_that_ends_early_is_no_file_and_is_tried_again() {
        let half = Answer::status(200).header("content-length", "4").body("ha").then_fails(Kind::Reset);
        assert_eq!(from(half).unwrap_err().disposition(), Disposition::Retry { after: None });
        assert_eq!(
            from(Answer::status(404)).unwrap_err().to_string(),
            "GET files.example.com: 404 Not Found"
        );
    }
}
