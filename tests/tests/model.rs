//! Small worlds in which things happen in every order that there is.
//!
//! Invariant: `Job::apply`, `Lane::count` and `admit` are called, and no rule of theirs is copied.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use midge_core::{
    Claim, Ending, Gate, InLane, Job, JobEvent, JobState, Lane, LaneHead, Links, Machine, MachineEnd,
    MachineState, NewJob, QueueRow, Turn, admit, in_turn,
};
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{AttemptLimits, Backoff, Cause, Failure, RetryPolicy, State};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{
    AttemptNumber, JobId, JobKey, Labels, Lease, MachineName, ModuleName, QueueName, Timestamp,
};
use stateright::{Checker, Model, Property};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn new_job(number: u8, key: Option<&str>, max_attempts: u32) -> Job {
    let backoff = Backoff::Fixed { wait_ms: 1 };
    let new = NewJob {
        id: JobId::from_bytes([number; 16]),
        module: ModuleName::new("hello").unwrap(),
        queue: QueueName::default_queue(),
        priority: 0,
        key: key.map(|key| JobKey::new(key).unwrap()),
        labels: Labels::default(),
        content_hash: 0,
        retry: RetryPolicy { max_attempts, backoff, jitter_percent: Some(0), ..RetryPolicy::default() },
        limits: AttemptLimits::default(),
        has_own_time_limit: false,
        due: NOW,
        retry_until: None,
        expires_at: None,
        unique: None,
        links: Links::default(),
    };
    Job::new(new, NOW)
}

fn name(machine: u8) -> MachineName {
    MachineName::new(format!("m{machine}")).unwrap()
}

/// What a guest comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Completes,
    Fails,
    IsHandedBack,
}

impl End {
    fn outcome(self) -> Outcome {
        match self {
            End::Completes => Outcome::Completed { result: "yes".into() },
            End::Fails => Outcome::Failed(Failure::new(Cause::Exit, "no")),
            End::IsHandedBack => Outcome::HANDED_BACK,
        }
    }
}

/// A job, two Machines, and messages that are lost, come late, or come twice: each grant and each report that was ever sent
/// may arrive at any time from then on, or never.
struct OneJob {
    max_attempts: u32,
    attempts_most: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct OneJobState {
    job: Job,
    /// Which Machines the server has not given up. One that it has may go on all the same.
    there: [bool; 2],
    granted: BTreeSet<(u8, AttemptNumber)>,
    begun: BTreeSet<(u8, AttemptNumber)>,
    reports: BTreeSet<(u8, AttemptNumber, End)>,
    /// Whether a report was refused.
    refused: bool,
    cancels: bool,
    retries: bool,
    /// The reports that were taken, by attempt, since somebody retried.
    spent: u32,
    taken: BTreeMap<AttemptNumber, u32>,
    broken: Option<&'static str>,
}

impl Hash for OneJobState {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum OneJobAction {
    Claims(u8),
    GrantArrives(u8, AttemptNumber),
    GuestEnds(u8, AttemptNumber, End),
    ReportArrives(u8, AttemptNumber, End),
    MachineIsLost(u8),
    SomebodyCancels,
    SomebodyRetries,
}

impl OneJobState {
    fn lease(machine: u8, attempt: AttemptNumber) -> Lease {
        Lease { machine: name(machine), attempt }
    }

    /// Applies an event, and checks what must hold of any.
    fn happens(&mut self, event: JobEvent) -> bool {
        let (by_hand, now) = (matches!(event, JobEvent::RetryAsked), self.job.due().max(NOW));
        let Ok(change) = self.job.apply(event, now) else { return false };
        let (before, after) = (&self.job, &change.job);
        if after.attempt < before.attempt {
            self.broken = Some("an attempt number fell");
        }
        if before.ended_at().is_some() && !by_hand {
            self.broken = Some("something happened to a job that had ended");
        }
        if before.is_cancelling() && matches!(after.state, JobState::Waiting { .. }) {
            self.broken = Some("a job that was cancelled goes on");
        }
        self.job = change.job;
        true
    }
}

impl Model for OneJob {
    type State = OneJobState;
    type Action = OneJobAction;

    fn init_states(&self) -> Vec<OneJobState> {
        vec![OneJobState {
            job: new_job(1, None, self.max_attempts),
            there: [true; 2],
            granted: BTreeSet::new(),
            begun: BTreeSet::new(),
            reports: BTreeSet::new(),
            refused: false,
            cancels: false,
            retries: false,
            spent: 0,
            taken: BTreeMap::new(),
            broken: None,
        }]
    }

    fn actions(&self, state: &OneJobState, actions: &mut Vec<OneJobAction>) {
        for machine in [0, 1].into_iter().filter(|machine| state.there[usize::from(*machine)]) {
            actions.extend([OneJobAction::Claims(machine), OneJobAction::MachineIsLost(machine)]);
        }
        let unknown = state.granted.difference(&state.begun);
        actions.extend(unknown.map(|(machine, attempt)| OneJobAction::GrantArrives(*machine, *attempt)));
        for &(machine, attempt) in &state.begun {
            // A guest ends once.
            if !state.reports.iter().any(|(of, number, _)| (*of, *number) == (machine, attempt)) {
                let ends = [End::Completes, End::Fails, End::IsHandedBack];
                actions.extend(ends.map(|end| OneJobAction::GuestEnds(machine, attempt, end)));
            }
        }
        let reports = state.reports.iter();
        actions.extend(
            reports.map(|(machine, attempt, end)| OneJobAction::ReportArrives(*machine, *attempt, *end)),
        );
        if !state.cancels {
            actions.push(OneJobAction::SomebodyCancels);
        }
        if !state.retries {
            actions.push(OneJobAction::SomebodyRetries);
        }
    }

    fn next_state(&self, last: &OneJobState, action: OneJobAction) -> Option<OneJobState> {
        let mut state = last.clone();
        match action {
            OneJobAction::Claims(machine) => {
                state.happens(JobEvent::Claimed { machine: name(machine) });
                if let Some(lease) = state.job.lease().filter(|lease| Some(*lease) != last.job.lease()) {
                    state.granted.insert((machine, lease.attempt));
                }
            }
            OneJobAction::GrantArrives(machine, attempt) => {
                state.begun.insert((machine, attempt));
            }
            OneJobAction::GuestEnds(machine, attempt, end) => {
                state.reports.insert((machine, attempt, end));
            }
            OneJobAction::ReportArrives(machine, attempt, end) => {
                let lease = OneJobState::lease(machine, attempt);
                let holds = state.job.lease() == Some(&lease);
                let event = JobEvent::Finished { lease, outcome: end.outcome(), usage: None, jitter: 0.0 };
                if state.happens(event) {
                    *state.taken.entry(attempt).or_default() += 1;
                    state.spent += u32::from(end != End::IsHandedBack);
                    if !holds {
                        state.broken = Some("a report was taken from whom held no lease");
                    }
                } else {
                    state.refused = true;
                }
            }
            OneJobAction::MachineIsLost(machine) => {
                state.there[usize::from(machine)] = false;
                let (machine, note) = (name(machine), String::new());
                state.happens(JobEvent::MachineLost { machine, end: MachineEnd::Own, note });
            }
            OneJobAction::SomebodyCancels => {
                state.cancels = true;
                state.happens(JobEvent::CancelAsked);
            }
            OneJobAction::SomebodyRetries => {
                let had_ended = state.job.ended_at().is_some();
                state.retries = true;
                if state.happens(JobEvent::RetryAsked) && had_ended {
                    state.spent = 0;
                }
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<OneJob>> {
        fn is(state: &OneJobState, ending: State) -> bool {
            state.job.state_at(NOW) == ending
        }
        vec![
            Property::always("nothing is broken on the way", |_, state: &OneJobState| state.broken.is_none()),
            Property::always("an attempt ends once", |_, state: &OneJobState| {
                state.taken.values().all(|taken| *taken == 1)
            }),
            Property::always("what counts is what guests did", |model: &OneJob, state: &OneJobState| {
                state.job.spent == state.spent && state.spent <= model.max_attempts
            }),
            Property::always("who runs holds the newest attempt", |_, state: &OneJobState| {
                state.job.lease().is_none_or(|lease| lease.attempt == state.job.attempt)
            }),
            Property::always("a job with a result completed in a guest", |_, state: &OneJobState| {
                let completed =
                    matches!(state.job.state, JobState::Ended { how: Ending::Completed { .. }, .. });
                !completed
                    || state
                        .reports
                        .iter()
                        .any(|(_, attempt, end)| (*attempt, *end) == (state.job.attempt, End::Completes))
            }),
            Property::always("a job waits only while it may be tried again", |model, state: &OneJobState| {
                !matches!(state.job.state, JobState::Waiting { .. }) || state.job.spent < model.max_attempts
            }),
            Property::sometimes("it completes", |_, state| is(state, State::Completed)),
            Property::sometimes("it is discarded", |_, state| is(state, State::Discarded)),
            Property::sometimes("it is cancelled", |_, state| is(state, State::Cancelled)),
            Property::sometimes("a report comes too late", |_, state: &OneJobState| state.refused),
            Property::sometimes("two guests run at once", |_, state: &OneJobState| {
                state.begun.len() > state.reports.len() + 1
            }),
        ]
    }

    fn within_boundary(&self, state: &OneJobState) -> bool {
        state.job.attempt.0 <= self.attempts_most
    }
}

#[test]
fn one_job_and_two_machines_with_lost_and_late_messages() {
    let model = OneJob { max_attempts: 2, attempts_most: 3 };
    let checker = model.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.unique_state_count() > 1_000, "{} states", checker.unique_state_count());
}

/// Two keys and jobs without one in a queue with limits, and two Machines that claim and finish in any order.
struct TwoLanes {
    policy: QueuePolicy,
    jobs: Vec<Job>,
}

#[derive(Debug, Clone, PartialEq)]
struct TwoLanesState {
    jobs: Vec<Job>,
    lanes: BTreeMap<JobKey, Lane>,
    queue: QueueRow,
    broken: Option<&'static str>,
}

impl Hash for TwoLanesState {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum TwoLanesAction {
    Claims { machine: u8, room: u32 },
    Finishes(usize),
}

fn in_lane(job: &Job) -> InLane {
    InLane { phase: job.phase(), due: job.due() }
}

impl TwoLanesState {
    fn new(jobs: Vec<Job>) -> TwoLanesState {
        let mut lanes: BTreeMap<JobKey, Lane> = BTreeMap::new();
        for job in &jobs {
            if let Some(key) = &job.key {
                let lane = lanes.entry(key.clone());
                let lane = lane.or_insert_with(|| Lane::new(job.queue.clone(), key.clone()));
                lane.count(None, Some(in_lane(job)));
            }
        }
        TwoLanesState { jobs, lanes, queue: QueueRow::default(), broken: None }
    }

    fn running<'a>(&'a self, of: impl Fn(&Job) -> bool + 'a) -> u64 {
        self.jobs.iter().filter(|job| job.lease().is_some() && of(job)).count() as u64
    }

    fn waiting(&self, key: Option<&JobKey>) -> Vec<Job> {
        let of_key = self.jobs.iter().filter(|job| job.key.as_ref() == key);
        of_key.filter(|job| job.phase().is_in_line()).cloned().collect()
    }

    /// Writes a job as a store does: its lane counts what became of it.
    fn put(&mut self, index: usize, job: Job) {
        let before = in_lane(&self.jobs[index]);
        if let Some(lane) = job.key.as_ref().and_then(|key| self.lanes.get_mut(key)) {
            lane.count(Some(before), Some(in_lane(&job)));
        }
        self.jobs[index] = job;
    }

    /// Claims as an exchange does: the lanes whose turn has come, in the order of their turns, and the jobs without a key.
    fn claim(&mut self, policy: &QueuePolicy, machine: u8, room: u32) -> usize {
        let row = Machine {
            places: 2,
            ..Machine::new(
                name(machine),
                QueueName::default_queue(),
                "g".to_owned(),
                policy,
                MachineState::Up,
                NOW,
            )
        };
        let running = self.running(|job| job.lease().is_some_and(|lease| lease.machine == row.name)) as u32;
        let claim = Claim {
            machine: &row,
            generation: "g",
            running,
            room: room.saturating_sub(running),
            newest: true,
        };
        let comes = |lane: &&Lane| lane.turn.is_some_and(|turn| turn <= Turn::until(NOW)) && !lane.full;
        let mut lanes: Vec<Lane> = self.lanes.values().filter(comes).cloned().collect();
        lanes.sort_by_key(|lane| (lane.turn, lane.key.clone()));
        let queue = self.queue.clone();
        let last_turn = lanes.iter().filter_map(|lane| lane.turn).max();
        let gate = Gate { policy, row: &queue, running: self.running(|_| true), last_turn };
        let head = |lane: Lane| {
            let jobs = self.waiting(Some(&lane.key));
            LaneHead {
                turn: lane.turn.unwrap_or_default(),
                lane: Some(lane),
                jobs,
                next_due: None,
                is_whole: true,
            }
        };
        let jobs = self.waiting(None);
        let turn = queue.keyless_turn(jobs.iter().map(Job::due).min());
        let keyless = LaneHead { lane: None, turn, jobs, next_due: None, is_whole: true };
        let heads = in_turn(lanes.into_iter().map(head).collect(), keyless);
        let admission = admit(&claim, &gate, 0, &heads, NOW);
        for id in &admission.jobs {
            let index = self.jobs.iter().position(|job| job.id == *id).expect("it waits");
            match self.jobs[index].apply(JobEvent::Claimed { machine: row.name.clone() }, NOW) {
                Ok(change) => self.put(index, change.job),
                Err(_) => self.broken = Some("a job was admitted that cannot be claimed"),
            }
        }
        for planned in admission.lanes {
            let lane = self.lanes.get_mut(&planned.key).expect("it was looked at");
            *lane = Lane { turn: planned.turn, full: planned.full, bucket: planned.bucket, ..lane.clone() };
        }
        if let Some(queue) = admission.queue {
            self.queue = queue;
        }
        admission.jobs.len()
    }
}

impl Model for TwoLanes {
    type State = TwoLanesState;
    type Action = TwoLanesAction;

    fn init_states(&self) -> Vec<TwoLanesState> {
        vec![TwoLanesState::new(self.jobs.clone())]
    }

    fn actions(&self, state: &TwoLanesState, actions: &mut Vec<TwoLanesAction>) {
        for machine in [0, 1] {
            actions.extend([1, 2].map(|room| TwoLanesAction::Claims { machine, room }));
        }
        let running = (0..state.jobs.len()).filter(|index| state.jobs[*index].lease().is_some());
        actions.extend(running.map(TwoLanesAction::Finishes));
    }

    fn next_state(&self, last: &TwoLanesState, action: TwoLanesAction) -> Option<TwoLanesState> {
        let mut state = last.clone();
        match action {
            TwoLanesAction::Claims { machine, room } => {
                state.claim(&self.policy, machine, room);
            }
            TwoLanesAction::Finishes(index) => {
                let job = &state.jobs[index];
                let (lease, outcome) = (job.lease()?.clone(), End::Completes.outcome());
                let finished = JobEvent::Finished { lease, outcome, usage: None, jitter: 0.0 };
                let job = job.apply(finished, NOW).expect("it holds the lease").job;
                state.put(index, job);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<TwoLanes>> {
        vec![
            Property::always("what is admitted can be claimed", |_, state: &TwoLanesState| {
                state.broken.is_none()
            }),
            Property::always("no limit is exceeded", |model: &TwoLanes, state: &TwoLanesState| {
                let per_key = model.policy.max_running_per_key.map_or(u64::MAX, u64::from);
                let most = model.policy.max_running.map_or(u64::MAX, u64::from);
                let of = |key: &JobKey| state.running(|job| job.key.as_ref() == Some(key));
                state.running(|_| true) <= most && state.lanes.keys().all(|key| of(key) <= per_key)
            }),
            Property::always("a lane counts its jobs", |_, state: &TwoLanesState| {
                state.lanes.iter().all(|(key, lane)| {
                    let running = state.running(|job| job.key.as_ref() == Some(key));
                    (lane.waiting, lane.running) == (state.waiting(Some(key)).len() as u64, running)
                })
            }),
            Property::always(
                "where nothing runs, whoever claims gets a job",
                |model, state: &TwoLanesState| {
                    let waits = state.jobs.iter().any(|job| job.phase().is_in_line());
                    !waits || state.running(|_| true) > 0 || state.clone().claim(&model.policy, 0, 2) > 0
                },
            ),
            Property::always("room is used: of a key, and without one", |model, state: &TwoLanesState| {
                let most = model.policy.max_running.map_or(u64::MAX, u64::from);
                let per_key = model.policy.max_running_per_key.map_or(u64::MAX, u64::from);
                let has_room = |lane: &Lane| lane.waiting > 0 && lane.running < per_key;
                let some = state.lanes.values().any(has_room) || !state.waiting(None).is_empty();
                let mut next = state.clone();
                // An empty Machine beside those two.
                !some || state.running(|_| true) >= most || next.claim(&model.policy, 7, 2) > 0
            }),
            Property::eventually("every job ends", |_, state: &TwoLanesState| {
                state.jobs.iter().all(|job| job.ended_at().is_some())
            }),
            Property::sometimes("the queue is at its limit", |model: &TwoLanes, state: &TwoLanesState| {
                model.policy.max_running.is_some_and(|most| state.running(|_| true) == u64::from(most))
            }),
            Property::sometimes("a key is at its limit while others wait", |_, state: &TwoLanesState| {
                state.lanes.values().any(|lane| lane.full && lane.waiting > 0)
            }),
        ]
    }
}

#[test]
fn two_lanes_and_jobs_without_a_key_in_a_queue_with_limits() {
    let policy = QueuePolicy {
        max_running: Some(2),
        max_running_per_key: Some(1),
        jobs_per_machine: 2,
        ..QueuePolicy::default()
    };
    let keys =
        [Some("a"), Some("a"), Some("a"), Some("a"), Some("b"), Some("b"), Some("b"), None, None, None];
    let jobs = (0..).zip(keys).map(|(number, key)| new_job(number, key, 1)).collect();
    let checker = TwoLanes { policy, jobs }.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.unique_state_count() > 500, "{} states", checker.unique_state_count());
}
