//! Requests judged as they are before anything is looked up, and not made.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use midge_core::reach;
use midge_protocol::line::{Failed, Request, Setup};

use crate::asked::Asked;
use crate::failure::not_allowed;
use crate::modules::{Modules, NoModules, secret_names};
use crate::stars::Stars;
use crate::world::World;

/// Stands for the value of each secret: which it is makes no difference here.
const ANY_VALUE: Bytes = Bytes::from_static(b"secret");

/// Says of requests whether their modules may make them, and makes none.
pub struct Judge(Modules);

impl Judge {
    /// Reads what the modules in a folder may reach. Their secrets count as set.
    ///
    /// # Errors
    /// Where the folder has no manifest that can be read.
    pub fn of(modules: &Path) -> Result<Judge, NoModules> {
        let secrets: BTreeMap<_, _> = secret_names(modules)?.map(|name| (name, ANY_VALUE)).collect();
        let setup = Setup { modules: modules.display().to_string(), secrets };
        Modules::read(setup, World::of_the_system(None)).map(Judge)
    }

    /// Returns why a request would be refused before a name was looked up; nothing where it would not. To which address its
    /// host's name leads, and where redirects do, is not known here.
    pub fn refuses(&self, request: &Request) -> Option<Failed> {
        self.judge(request).err()
    }

    fn judge(&self, request: &Request) -> Result<(), Failed> {
        let module = self.0.get(&request.module)?;
        let asked = Asked::read(request)?;
        let origin = asked.origin()?;
        let target = origin.target(asked.url.path());
        reach(&module.name, &module.http, target).map_err(|error| not_allowed(&error))?;
        module.headers(&asked, target, &mut Stars::default()).map(drop)
    }
}
