//! What every store must do, as plain functions over `&dyn Store`, each named as its rule.
//!
//! A backend's test is one line: `midge_store::conformance!(open);`, where `open` returns an empty store and what has
//! to live as long as it. A bug in one backend first becomes a rule here.

pub mod batches;
pub mod contents;
pub mod costs;
pub mod counts;
pub mod dependencies;
pub mod ended;
pub mod expiry;
pub mod failures;
pub mod fixtures;
pub mod held;
pub mod jobs;
pub mod labels;
pub mod lanes;
pub mod listing;
pub mod machines;
pub mod schedules;
pub mod transactions;
pub mod unique;

use crate::{Store, StoreError};

/// What a rule returns. It panics where the store answers wrong; that the store fails is an error.
pub type Kept = Result<(), StoreError>;

/// Makes one test of each rule, for the stores that a function opens.
#[macro_export]
macro_rules! conformance {
    ($open:expr) => {
        $crate::conformance!(@tests $open;
            transactions::work_that_fails_leaves_nothing
            transactions::work_that_fails_leaves_the_work_beside_it
            transactions::work_that_panics_leaves_nothing
            transactions::an_error_of_the_callers_comes_back_as_it_was
            transactions::an_error_of_the_store_comes_back_as_the_callers
            transactions::work_sees_what_it_wrote
            transactions::work_follows_work
            transactions::a_read_sees_what_was_written_before
            transactions::a_read_cannot_write
            transactions::a_store_that_takes_work_says_so
            jobs::a_job_is_found_as_it_was_written
            jobs::jobs_are_found_in_the_order_that_was_asked_for
            jobs::a_job_is_written_over
            jobs::jobs_due_are_longest_due_first
            jobs::jobs_due_are_in_the_claim_order_of_the_core
            jobs::only_waiting_jobs_are_due
            jobs::jobs_leased_are_those_of_one_machine
            jobs::a_job_may_change_its_queue
            jobs::next_due_is_the_soonest_that_is_not_due
            jobs::a_job_is_deleted_in_every_phase
            jobs::deleting_a_job_deletes_all_that_belongs_to_it
            jobs::deleting_ended_jobs_deletes_all_that_belongs_to_them
            jobs::only_jobs_of_a_phase_that_ended_before_a_time_are_deleted
            expiry::a_job_is_found_with_how_it_is_tried_again_and_when_it_expires
            expiry::jobs_expired_are_those_whose_time_has_come_soonest_first
            expiry::only_jobs_that_wait_for_their_first_start_expire
            expiry::the_next_expiry_is_the_soonest_whether_it_is_past_or_not
            expiry::an_expiry_is_forgotten_with_work_that_fails
            lanes::jobs_of_a_key_are_due_in_the_claim_order_of_the_core
            lanes::the_first_due_time_of_a_lane_is_its_soonest
            lanes::a_lane_follows_its_jobs
            lanes::a_lane_that_was_served_keeps_its_place
            lanes::a_lane_keeps_its_rate_when_a_job_of_a_clock_ahead_ends
            lanes::a_lane_forgets_work_that_fails
            ended::jobs_that_ended_are_deleted_queue_by_queue
            ended::what_is_deleted_at_once_is_bounded_by_its_bytes
            lanes::lanes_come_in_turn_unless_they_are_full
            lanes::lanes_are_found_by_their_keys
            lanes::a_plan_for_a_lane_leaves_its_numbers
            lanes::a_queue_is_found_as_it_was_written
            lanes::lanes_have_the_numbers_of_their_jobs
            held::a_held_job_waits_in_no_line
            held::held_jobs_are_found_by_their_module
            held::a_module_is_found_as_it_was_written
            dependencies::a_pending_job_waits_for_others_until_it_is_pending_no_more
            dependencies::a_pending_job_waits_in_no_line
            dependencies::those_that_wait_for_a_job_are_told_how_it_ended
            dependencies::those_that_began_to_wait_later_wait_for_another_end
            dependencies::those_that_wait_for_a_job_are_told_that_it_is_deleted
            dependencies::dependencies_forget_work_that_fails
            dependencies::links_are_found_as_they_were_written
            batches::a_batch_is_found_as_it_was_written
            batches::a_batch_counts_its_jobs_whatever_becomes_of_them
            batches::a_batch_that_has_to_act_is_found_until_it_has
            batches::a_batch_forgets_work_that_fails
            batches::the_jobs_of_a_batch_are_found_and_listed
            batches::batches_are_listed_highest_first_and_deleted_when_no_job_is_left
            listing::jobs_are_listed_newest_first
            listing::every_search_lists_exactly_what_fits
            listing::pages_follow_one_another_without_gap_or_repeat
            labels::every_search_finds_and_counts_exactly_what_fits
            labels::a_search_stops_early_and_goes_on_from_there
            labels::few_jobs_are_found_at_once_behind_many_newer_ones
            labels::a_job_is_found_by_the_tags_that_it_has_now
            labels::tags_are_forgotten_with_work_that_fails
            labels::pages_neither_repeat_nor_skip_while_jobs_come_in
            failures::groups_are_found_as_written_the_last_seen_first
            failures::groups_are_listed_page_by_page
            failures::the_jobs_that_failed_so_last_are_counted_as_far_as_people_care
            failures::groups_that_were_seen_long_ago_are_deleted
            failures::a_new_group_takes_the_place_of_the_oldest
            failures::a_failure_is_counted_with_the_change_that_brought_it
            failures::a_sweep_is_found_as_it_was_written
            costs::sums_are_found_by_day_in_the_order_of_their_keys
            costs::sums_of_machines_are_found_by_queue
            costs::sums_grow_to_their_bound
            costs::sums_of_early_days_are_deleted
            costs::sums_forget_work_that_fails
            counts::counts_follow_every_change
            counts::counts_are_right_at_any_time
            counts::counts_forget_work_that_fails
            counts::a_queue_without_jobs_is_not_counted
            contents::bytes_are_kept_to_the_byte
            contents::bytes_are_written_over
            contents::no_bytes_are_not_the_same_as_nothing
            contents::a_log_grows_by_its_pieces
            contents::a_repeated_log_piece_is_not_written_twice
            contents::a_log_piece_after_a_gap_is_left_out
            contents::a_log_is_read_from_any_byte_on
            contents::every_attempt_has_its_own_log
            contents::attempts_are_oldest_first
            contents::attempts_are_deleted_with_their_logs
            machines::a_machine_is_found_as_it_was_written
            machines::machines_are_by_name_with_the_jobs_leased_to_them
            machines::a_machine_is_forgotten
            machines::settings_are_remembered
            schedules::a_schedule_is_found_as_it_was_written
            schedules::the_next_schedule_is_the_soonest
            schedules::a_schedule_is_forgotten
            unique::a_key_has_one_job
            unique::only_what_is_added_counts_in_its_batch
            unique::a_job_is_found_with_its_key_as_it_was_written
            unique::a_key_is_held_until_its_job_gives_it_up
            unique::a_key_is_as_it_was_after_work_that_fails
            unique::bytes_are_deleted
        );
    };
    (@tests $open:expr; $($file:ident :: $rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                let (store, kept) = $open();
                $crate::conformance::check(&store, |store| Box::pin($crate::conformance::$file::$rule(store)));
                drop(store);
                drop(kept);
            }
        )*
    };
}

/// A rule, as [`check`] takes it.
pub type Rule = for<'a> fn(&'a dyn Store) -> std::pin::Pin<Box<dyn Future<Output = Kept> + 'a>>;

/// Checks a rule on an empty store, and panics where it is broken.
pub fn check(store: &dyn Store, rule: Rule) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a test can have a runtime");
    if let Err(error) = runtime.block_on(rule(store)) {
        panic!("the store failed: {error}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_rule_is_listed() {
        let list = include_str!("conformance.rs");
        let files = [
            ("batches", include_str!("conformance/batches.rs")),
            ("contents", include_str!("conformance/contents.rs")),
            ("costs", include_str!("conformance/costs.rs")),
            ("counts", include_str!("conformance/counts.rs")),
            ("dependencies", include_str!("conformance/dependencies.rs")),
            ("ended", include_str!("conformance/ended.rs")),
            ("expiry", include_str!("conformance/expiry.rs")),
            ("failures", include_str!("conformance/failures.rs")),
            ("held", include_str!("conformance/held.rs")),
            ("jobs", include_str!("conformance/jobs.rs")),
            ("labels", include_str!("conformance/labels.rs")),
            ("lanes", include_str!("conformance/lanes.rs")),
            ("listing", include_str!("conformance/listing.rs")),
            ("machines", include_str!("conformance/machines.rs")),
            ("schedules", include_str!("conformance/schedules.rs")),
            ("transactions", include_str!("conformance/transactions.rs")),
            ("unique", include_str!("conformance/unique.rs")),
        ];
        for (file, source) in files {
            for rule in source.split("\npub async fn ").skip(1) {
                let rule = format!("{file}::{}\n", rule.split('(').next().unwrap());
                assert!(list.contains(&rule), "{rule} is not in the list");
            }
        }
    }
}
