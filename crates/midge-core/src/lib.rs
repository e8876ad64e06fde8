//! What may happen to a job or a Machine, and what to do next.
//!
//! Invariant: pure. No clock, no randomness, no environment, no files, no async: time, jitter and the world are
//! arguments, so that the whole system can run under a seed. Every rule is in one of these:
//!
//! | question | answer |
//! |---|---|
//! | What may happen to a job? | [`Job::apply`] |
//! | Is there another job like a new one, and what becomes of it? | [`Job::met_by`] |
//! | What does the end of a job mean for those that are to run after it? | [`Links::dependency`] |
//! | When does a batch end, what is run then, and why can nothing wait for itself? | [`Batch`] |
//! | What is a job whose row cannot be read? | [`UnreadableJob`] |
//! | What may happen to a Machine, and what does it mean for its jobs? | [`Machine::apply`] |
//! | Which jobs does a Machine get, and may it go, or rest? | [`admit()`], [`may_leave`], [`may_rest`] |
//! | Whose turn is it in a queue, and how many may begin? | [`Lane`], [`QueueRow`], [`Bucket`] |
//! | What of that holds under other limits, or another time? | [`QueueRow::unsettled`], [`Lane::settle`] |
//! | Does a module start jobs? When is one tried for which Machines lacked something? | [`ModuleRow::hold`]; [`Lack`] |
//! | May more jobs wait in a queue, and how many? | [`is_full`], [`room_for_new`], [`needs_room`] |
//! | What is to be done about Machines, and when is that asked again? | [`plan()`], [`Rounds`] |
//! | Why does a job not start? | [`Outlook::why`] |
//! | What time is it, where a clock is set? | [`WallClock`] |
//! | Which ticks of a schedule bring jobs now, and what jobs? | [`Schedule::due`], [`Ticks`] |
//! | May a module's request go there, and a secret with it? What of a URL may be shown? | [`reach()`], [`Permit`], [`may_go`]; [`written_origin`] |
//! | What do host and server say to each other next? | [`exchange`] |
//! | How long does a failed job wait, and one that was run in vain? | [`backoff()`], [`in_vain_wait`] |
//! | Which jobs are in a public state, and how many? | [`StateFilter`], [`JobCounts`] |
//! | What is a follower of a job told next? | [`Follow`] |
//! | Which jobs does somebody mean? | [`JobSearch`] |
//! | What is done to all of them, and how far is that? | [`act()`], [`Sweep`] |
//! | Which failures are alike, and how many? | [`Job::fingerprint`], [`failure_counted`] |
//! | How is a Machine's time shared among its attempts, what is summed of it, and what does it cost? | [`ShareClock`], [`CostBook`], [`CostTable`] |
//! | May a queue's Machines cost more in this month? | [`Standing`] |
//! | How long is an ended job kept? | [`Retention`] |
//! | What is kept of a log that a host tells, and of a job's attempts? | [`kept_of_log`], [`Job::forgotten_attempts`] |

mod job;
mod machine;
mod report;
mod unreadable;
mod wall;

mod admit;
mod backoff;
mod batch;
mod bucket;
mod budget;
mod cost;
mod counts;
mod failures;
mod filter;
mod fingerprint;
mod follow;
mod lane;
mod module;
mod price;
mod retention;
mod settle;
mod shares;
mod sweep;

mod fleet;
mod plan;
mod rounds;
#[cfg(feature = "schedules")]
mod schedule;
mod why;

mod reach;

pub mod exchange;

pub use admit::{
    Admission, Claim, Gate, LINE_HEAD, LaneHead, admit, claim_order, emptier, in_turn, is_full, may_leave,
    needs_room, room_for_new,
};
pub use backoff::{backoff, in_vain_wait};
pub use batch::{Batch, BatchRefused, Callback, CancelJobs};
pub use bucket::Bucket;
pub use budget::{OverBudget, Standing, month};
pub use cost::{COST_DAYS_KEPT, CostBook, CostKey, CostSums, CostTable};
pub use counts::JobCounts;
pub use failures::{FAILURE_GROUPS_MAX, FAILURE_OPEN_MAX, failure_counted};
pub use filter::{JobSearch, StateFilter, Stretch};
pub use fingerprint::fingerprint;
pub use follow::{Follow, Tell};
pub use job::{
    Change, Dependency, DependencyEnd, Ending, Job, JobEvent, JobRefused, JobState, Links, Met, NewJob,
    Phase, TooDeep, UniqueHold, UniqueKey,
};
pub use lane::{InLane, Lane, QueueRow, Turn};
pub use machine::{
    Call, CallFailure, CreateTries, Exit, Loss, Machine, MachineChange, MachineEnd, MachineEvent,
    MachineRefused, MachineState, Meter, Metered, Sight, Sleep, Stray, first_region, machine_name, may_rest,
    named_at,
};
pub use module::{Hold, Lack, ModuleRow, Trial};
pub use plan::{Action, QueueDemand, View, plan, room_for_machines};
pub use price::{resting_cost, running_cost};
pub use reach::{Host, NotAllowed, Permit, Target, may_go, reach, written_origin};
pub use report::kept_of_log;
pub use retention::Retention;
pub use rounds::{Found, Rounds};
#[cfg(feature = "schedules")]
pub use schedule::{Schedule, Tick, Ticks, tick_job};
pub use settle::{Settled, Unsettled};
pub use shares::{ShareBegun, ShareClock};
pub use sweep::{
    Acted, SWEEPS_MAX, SWEEPS_OPEN_MAX, Sweep, act, act_unreadable, next_sweep, search_for, sweeps_over,
};
pub use unreadable::UnreadableJob;
pub use wall::{Step, WallClock};
pub use why::{Outlook, WhyWaiting};
