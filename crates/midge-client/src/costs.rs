//! What the client asks about costs.

use midge_protocol::api::{Costs, CostsFilter};

use crate::transport::Call;
use crate::{Client, ClientError};

impl Client {
    /// Returns what Machines and jobs have cost.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the last day is before the first.
    pub async fn costs(&self, filter: &CostsFilter) -> Result<Costs, ClientError> {
        // Every field by name: one that is added and not sent does not compile.
        let CostsFilter { since, until, by } = filter;
        self.ask(Call::get(&["costs"]).query("since", *since).query("until", *until).query("by", *by)).await
    }
}
