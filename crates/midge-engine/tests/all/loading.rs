//! What does not fit is refused before a byte of it runs, with what is wrong and what to do.

use midge_engine::{LoadError, Modules};
use midge_protocol::manifest::FORMAT;

use crate::support::*;

fn open_error(folder: &Folder) -> LoadError {
    match Modules::open(folder.path()) {
        Err(error) => error,
        Ok(_) => panic!("it should have been refused"),
    }
}

fn load_error(folder: &Folder) -> LoadError {
    folder.open().load(&name("guest")).unwrap_err()
}

fn whole(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{cause}")
}

#[test]
fn a_folder_without_a_manifest_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Modules::open(folder.path()).err().unwrap();
    assert!(matches!(error, LoadError::NoManifest { .. }));
    assert!(
        error.to_string().contains("manifest.json") && error.to_string().contains("midge build"),
        "{error}"
    );
}

#[test]
fn a_manifest_of_another_kind_format_wasmtime_or_configuration_is_refused() {
    let mut folder = Folder::with(&[("guest", &guest(""))]);
    std::fs::write(folder.path().join("manifest.json"), "{\"format\": 1").unwrap();
    assert!(matches!(open_error(&folder), LoadError::MalformedManifest { .. }));

    folder.manifest.format = FORMAT + 1;
    folder.save();
    assert!(matches!(open_error(&folder), LoadError::OtherFormat { format, .. } if format == FORMAT + 1));
    folder.manifest.format = FORMAT;

    folder.manifest.wasmtime = "48.0.7".to_owned();
    folder.save();
    let error = open_error(&folder);
    assert!(matches!(error, LoadError::OtherWasmtime { .. }));
    assert!(error.to_string().contains("48.0.7"), "{error}");
    folder.manifest.wasmtime = midge_engine::WASMTIME_VERSION.to_owned();

    folder.manifest.config_hash = "0".repeat(16);
    folder.save();
    assert!(matches!(open_error(&folder), LoadError::OtherConfiguration { .. }));
    folder.manifest.config_hash = midge_engine::config_hash();

    folder.manifest.cpu = "x86-64-v9".to_owned();
    folder.save();
    let error = open_error(&folder);
    assert!(matches!(error, LoadError::OtherCpu { .. }));
    assert!(error.to_string().contains("x86-64-v9"), "{error}");
}

#[test]
fn an_unknown_module_is_refused_with_the_nearest_name() {
    let folder = Folder::with(&[("resize", &guest("")), ("report", &guest(""))]);
    let error = folder.open().load(&name("resise")).unwrap_err();
    assert_eq!(error.to_string(), "there is no module `resise`: did you mean `resize`?");
    let error = folder.open().load(&name("zzz")).unwrap_err();
    assert_eq!(error.to_string(), "there is no module `zzz`");
}

#[test]
fn a_missing_truncated_or_altered_file_is_refused() {
    let folder = Folder::with(&[("guest", &guest(""))]);
    let file = folder.path().join("guest.cwasm");
    let code = std::fs::read(&file).unwrap();

    std::fs::write(&file, &code[..code.len() - 100]).unwrap();
    let error = load_error(&folder);
    assert!(matches!(error, LoadError::Truncated { .. }));
    assert!(error.to_string().contains(&format!("{} of {}", code.len() - 100, code.len())), "{error}");

    let mut altered = code.clone();
    altered[code.len() / 2] ^= 1;
    std::fs::write(&file, &altered).unwrap();
    assert!(matches!(load_error(&folder), LoadError::Altered { .. }));
    std::fs::write(&file, [&code[..], b"x"].concat()).unwrap();
    assert!(matches!(load_error(&folder), LoadError::Altered { .. }));

    std::fs::remove_file(&file).unwrap();
    let error = load_error(&folder);
    assert!(matches!(error, LoadError::File { .. }));
    assert!(error.to_string().contains("guest.cwasm"), "{error}");
}

#[test]
fn a_module_that_could_not_be_loaded_is_tried_again() {
    let folder = Folder::with(&[("guest", &guest(""))]);
    let file = folder.path().join("guest.cwasm");
    let code = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let modules = folder.open();
    assert!(modules.load(&name("guest")).is_err());
    std::fs::write(&file, &code).unwrap();
    assert!(modules.load(&name("guest")).is_ok());
}

#[test]
fn code_of_another_wasmtime_or_configuration_is_refused_even_if_the_manifest_lies() {
    let mut folder = Folder::with(&[]);
    let mut other = midge_engine::config();
    other.module_version(wasmtime::ModuleVersionStrategy::Custom("48.0.7+x".to_owned())).unwrap();
    folder.add("guest", &compile(&guest(""), other));
    folder.save();
    let error = load_error(&folder);
    assert!(matches!(error, LoadError::Refused { .. }));
    assert!(error.to_string().contains("48.0.7+x"), "{error}");

    let mut other = midge_engine::config();
    other.epoch_interruption(false);
    folder.add("guest", &compile(&guest(""), other));
    folder.save();
    assert!(matches!(load_error(&folder), LoadError::Refused { .. }));

    folder.add("guest", b"\x7fELF but nothing else");
    folder.save();
    assert!(matches!(load_error(&folder), LoadError::Refused { .. }));
}

#[test]
fn a_library_is_not_a_job() {
    let folder = Folder::with(&[("guest", "(module (func (export \"main\")))")]);
    let error = whole(&load_error(&folder));
    assert!(error.contains("_start"), "{error}");
    let folder = Folder::with(&[("guest", "(module (func (export \"_start\") (param i32)))")]);
    assert!(whole(&load_error(&folder)).contains("_start"));
}

#[test]
fn an_import_that_there_is_not_is_named_with_the_nearest() {
    let text = r#"(module (import "midge" "progres" (func)) (func (export "_start")))"#;
    let error = whole(&load_error(&Folder::with(&[("guest", text)])));
    assert!(error.contains("`progres`") && error.contains("did you mean `progress`"), "{error}");
    let text = r#"(module (import "env" "memcpy" (func)) (func (export "_start")))"#;
    let error = whole(&load_error(&Folder::with(&[("guest", text)])));
    assert!(error.contains("`env` `memcpy`"), "{error}");
}

#[test]
fn an_import_of_another_type_is_named_with_both() {
    let text = r#"(module (import "midge" "snooze" (func (param i32))) (func (export "_start")))"#;
    let error = whole(&load_error(&Folder::with(&[("guest", text)])));
    assert!(error.contains("(func (param i32))") && error.contains("(func (param i64))"), "{error}");
}

#[test]
fn names_of_a_modules_own_are_cut_in_messages() {
    let long = "n".repeat(100_000);
    let params = "(param i64)".repeat(900);
    for text in [
        format!(r#"(module (import "midge" "{long}" (func)) (func (export "_start")))"#),
        format!(r#"(module (import "{long}" "snooze" (func)) (func (export "_start")))"#),
        format!(r#"(module (import "midge" "snooze" (func {params})) (func (export "_start")))"#),
    ] {
        let error = whole(&load_error(&Folder::with(&[("guest", &text)])));
        assert!(error.len() < 500 && error.contains("..."), "{error}");
    }
    let failure =
        failure(&format!(r#"(module (func ${long} unreachable) (func (export "_start") call ${long}))"#));
    assert!(failure.message.len() < 500, "{}", failure.message);
}

#[test]
fn a_module_is_loaded_once() {
    let (_folder, modules, module) = load(&guest(""));
    assert!(std::sync::Arc::ptr_eq(&module, &modules.load(&name("guest")).unwrap()));
}
