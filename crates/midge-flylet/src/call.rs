//! Which call a request is: what limits and faults go by.

use axum::http::Method;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Create,
    List,
    Get,
    Update,
    Destroy,
    Start,
    Stop,
    Suspend,
    Restart,
    Signal,
    Wait,
    Cordon,
    Uncordon,
    Lease,
    Metadata,
    Events,
    Versions,
    /// An app, the regions, the token, or nothing there is.
    Other,
}

/// A call, and the id of the Machine that it is about, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    pub(crate) action: Action,
    pub(crate) id: Option<&'a str>,
}

#[cfg(test)]
impl Action {
    pub(crate) const ALL: [Action; 18] = [
        Action::Create,
        Action::List,
        Action::Get,
        Action::Update,
        Action::Destroy,
        Action::Start,
        Action::Stop,
        Action::Suspend,
        Action::Restart,
        Action::Signal,
        Action::Wait,
        Action::Cordon,
        Action::Uncordon,
        Action::Lease,
        Action::Metadata,
        Action::Events,
        Action::Versions,
        Action::Other,
    ];
}

impl<'a> Call<'a> {
    /// Reads a call from its method and path.
    pub(crate) fn of(method: &Method, path: &'a str) -> Call<'a> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (id, action) = match parts[..] {
            ["v1", "apps", _, "machines"] if method == Method::POST => (None, Action::Create),
            ["v1", "apps", _, "machines"] => (None, Action::List),
            ["v1", "apps", _, "machines", id] => (
                Some(id),
                match *method {
                    Method::POST => Action::Update,
                    Method::DELETE => Action::Destroy,
                    _ => Action::Get,
                },
            ),
            ["v1", "apps", _, "machines", id, word, ..] => (
                Some(id),
                match word {
                    "start" => Action::Start,
                    "stop" => Action::Stop,
                    "suspend" => Action::Suspend,
                    "restart" => Action::Restart,
                    "signal" => Action::Signal,
                    "wait" => Action::Wait,
                    "cordon" => Action::Cordon,
                    "uncordon" => Action::Uncordon,
                    "lease" => Action::Lease,
                    "metadata" => Action::Metadata,
                    "events" => Action::Events,
                    "versions" => Action::Versions,
                    _ => Action::Other,
                },
            ),
            _ => (None, Action::Other),
        };
        Call { action, id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_from_its_method_and_path() {
        let read = |method: Method, path| {
            let Call { action, id } = Call::of(&method, path);
            (action, id)
        };
        assert_eq!(read(Method::POST, "/v1/apps/a/machines"), (Action::Create, None));
        assert_eq!(read(Method::GET, "/v1/apps/a/machines"), (Action::List, None));
        assert_eq!(read(Method::POST, "/v1/apps/a/machines/m"), (Action::Update, Some("m")));
        assert_eq!(read(Method::DELETE, "/v1/apps/a/machines/m/metadata/k"), (Action::Metadata, Some("m")));
        assert_eq!(read(Method::GET, "/v1/apps/a"), (Action::Other, None));
        assert_eq!(read(Method::GET, "/"), (Action::Other, None));
    }
}
