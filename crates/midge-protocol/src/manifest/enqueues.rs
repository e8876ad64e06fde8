//! Which modules a module's guests may enqueue.

use super::ModuleEntry;
use crate::{ModuleName, nearest};

/// The error of a module whose guest enqueues what the module does not declare.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "module `{module}` does not declare that it enqueues `{wanted}`{}",
    what_to_do(.module, .wanted, *.has_list, .nearest.as_deref())
)]
pub struct NotDeclared {
    /// The module whose guest it is.
    pub module: ModuleName,
    /// The module of the job that it wants to enqueue.
    pub wanted: ModuleName,
    /// Whether it declares any.
    pub has_list: bool,
    /// One of those that it declares, if that was likely meant.
    pub nearest: Option<String>,
}

fn what_to_do(module: &ModuleName, wanted: &ModuleName, has_list: bool, nearest: Option<&str>) -> String {
    let add = if has_list {
        format!("add it to `enqueues` of [modules.{module}] in midge.toml")
    } else {
        format!("add `enqueues = [\"{wanted}\"]` to [modules.{module}] in midge.toml")
    };
    match nearest {
        Some(nearest) => format!(": did you mean `{nearest}`? If not, {add}"),
        None => format!(": {add}"),
    }
}

impl ModuleEntry {
    /// Checks that guests of this module, whose name is `module`, may enqueue jobs of another.
    ///
    /// # Errors
    /// [`NotDeclared`] says what to add where.
    pub fn may_enqueue(&self, module: &ModuleName, wanted: &ModuleName) -> Result<(), NotDeclared> {
        if self.enqueues.contains(wanted) {
            return Ok(());
        }
        let nearest = nearest(wanted.as_str(), self.enqueues.iter().map(ModuleName::as_str));
        let nearest = nearest.map(str::to_owned);
        let has_list = !self.enqueues.is_empty();
        Err(NotDeclared { module: module.clone(), wanted: wanted.clone(), has_list, nearest })
    }
}
