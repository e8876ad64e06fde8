//! The ticks of a schedule: the times that a cron expression fits, in a time zone whose clock is put forward and back.
//!
//! Between two changes of the clock, a tick is a reading of the clock that fits. At a change:
//!
//! - Where the clock skips readings, fixed times among them tick together, right after the gap.
//! - Where it shows readings twice, fixed times tick the first time only.
//! - An interval ticks as often as the clock shows its readings, but never sooner after its last tick than on a usual day: so
//!   every 15 minutes is every 15 minutes over either change. Where a gap hides all readings of a day, it ticks right after.

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp as Moment, ToSpan};
use midge_protocol::manifest::{ScheduleEntry, WrongEntry};
use midge_protocol::{Cron, Timestamp, zone};

/// How many months are looked through for a day that fits: 29 February has been eight years apart, and nothing is rarer.
const MONTHS_MAX: usize = 12 * 9;

/// The ticks of a schedule.
#[derive(Debug, Clone)]
pub struct Ticks {
    cron: Cron,
    zone: TimeZone,
}

/// Between two changes of the clock: what the clock shows runs with the time.
struct Stretch {
    offset: Offset,
    /// The change that it began with, and what the clock was ahead of UTC by before; nothing where it has no beginning.
    begin: Option<(Moment, Offset)>,
    end: Option<Moment>,
}

impl Ticks {
    /// Reads the expression and the time zone of a schedule.
    ///
    /// # Errors
    /// What is wrong with them. A manifest that was checked has none such.
    pub fn new(entry: &ScheduleEntry) -> Result<Ticks, WrongEntry> {
        let wrong = |key, why| WrongEntry { key, why };
        let cron = entry.cron.parse::<Cron>().map_err(|error| wrong("cron", error.to_string()))?;
        let zone = zone(&entry.zone).map_err(|error| wrong("zone", error.to_string()))?;
        Ok(Ticks { cron, zone })
    }

    /// Returns the first tick after a time; nothing where there is none before the end of time.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        // A tick is a whole second: the first that may be one.
        let mut from = Moment::from_second(time.as_millis().div_euclid(1_000) + 1).ok()?;
        loop {
            let stretch = self.stretch(from);
            if stretch.begin.is_some_and(|(begin, _)| begin == from) && self.ticks_at_begin(&stretch) {
                return to_timestamp(from);
            }
            let mut reading = self.reading_from(stretch.offset.to_datetime(from));
            while let Some(found) = reading {
                let at = stretch.offset.to_timestamp(found).ok()?;
                if stretch.end.is_some_and(|end| at >= end) {
                    break;
                }
                if self.counts(&stretch, found, at) {
                    return to_timestamp(at);
                }
                reading = self.reading_from(found.checked_add(1.second()).ok()?);
            }
            // Nothing fits any more, or not before the clock changes.
            from = stretch.end?;
            // A zone that changes for ever, and an expression that fits no reading from here on.
            reading?;
        }
    }

    /// Returns the last tick at a time or before it, down to `from`.
    pub fn last_until(&self, time: Timestamp, from: Timestamp) -> Option<Timestamp> {
        let mut until = Moment::from_second(time.as_millis().div_euclid(1_000)).ok()?;
        loop {
            if until.as_millisecond() < from.as_millis() {
                return None;
            }
            let stretch = self.stretch(until);
            let mut reading = self.reading_until(stretch.offset.to_datetime(until));
            while let Some(found) = reading {
                let at = stretch.offset.to_timestamp(found).ok()?;
                if at.as_millisecond() < from.as_millis()
                    || stretch.begin.is_some_and(|(begin, _)| at < begin)
                {
                    break;
                }
                if self.counts(&stretch, found, at) {
                    return to_timestamp(at);
                }
                reading = self.reading_until(found.checked_sub(1.second()).ok()?);
            }
            let (begin, _) = stretch.begin?;
            if self.ticks_at_begin(&stretch) {
                return to_timestamp(begin).filter(|tick| *tick >= from);
            }
            until = begin.checked_sub(SignedDuration::from_secs(1)).ok()?;
        }
    }

    /// Finds what is around a time. A change of the zone's name alone is none of the clock.
    fn stretch(&self, at: Moment) -> Stretch {
        let offset = self.zone.to_offset(at);
        // `preceding` leaves out a change at the very time.
        let past = at.checked_add(SignedDuration::from_secs(1)).unwrap_or(at);
        let mut begin = None;
        for change in self.zone.preceding(past) {
            let before = change.timestamp().checked_sub(SignedDuration::from_secs(1));
            let before = before.map_or(offset, |before| self.zone.to_offset(before));
            if before != offset {
                begin = Some((change.timestamp(), before));
                break;
            }
        }
        let end = self.zone.following(at).find(|change| change.offset() != offset);
        Stretch { offset, begin, end: end.map(|change| change.timestamp()) }
    }

    /// Returns whether readings that the clock skipped tick at the change itself.
    fn ticks_at_begin(&self, stretch: &Stretch) -> bool {
        let Some((begin, before)) = stretch.begin else { return false };
        let (skipped, shown) = (before.to_datetime(begin), stretch.offset.to_datetime(begin));
        if shown <= skipped {
            return false;
        }
        if !self.cron.interval {
            return self.reading_from(skipped).is_some_and(|reading| reading < shown);
        }
        // A tick that is near is enough.
        self.skips_a_day(skipped, shown)
            && self.is_late_enough(skipped, before, begin)
            && self
                .reading_from(shown)
                .is_none_or(|next| next.duration_since(shown).as_secs() >= self.usual_seconds())
    }

    /// Returns whether a gap hides all readings of a day.
    fn skips_a_day(&self, skipped: DateTime, shown: DateTime) -> bool {
        let (Some(first), Some(last)) = (self.second_from(0), self.second_until(86_399)) else {
            return false;
        };
        let is_hidden = |date: Date| {
            at_second(date, first).is_some_and(|first| first >= skipped)
                && at_second(date, last).is_some_and(|last| last < shown)
        };
        let mut dates = skipped.date().series(1.day()).take_while(|date| *date <= shown.date());
        dates.any(|date| self.fits(date) && is_hidden(date))
    }

    /// Returns whether a reading is a tick: a fixed time the first time that it is shown, an interval where its last tick is
    /// as long ago as on a usual day.
    fn counts(&self, stretch: &Stretch, reading: DateTime, at: Moment) -> bool {
        let Some((begin, before)) = stretch.begin else { return true };
        let end = before.to_datetime(begin);
        if self.cron.interval { self.is_late_enough(end, before, at) } else { reading >= end }
    }

    /// Returns whether a time is as far from the last reading before a change as an interval's ticks are on a usual day.
    fn is_late_enough(&self, end: DateTime, offset: Offset, at: Moment) -> bool {
        // No interval is longer than an hour: mostly, the change is long ago.
        if offset.to_timestamp(end).is_ok_and(|end| at.duration_since(end).as_secs() >= 3_600) {
            return true;
        }
        let last = end.checked_sub(1.second()).ok().and_then(|end| self.reading_until(end));
        let last = last.and_then(|last| offset.to_timestamp(last).ok());
        last.is_none_or(|last| at.duration_since(last).as_secs() >= self.usual_seconds())
    }

    /// Returns how far apart the ticks of an interval are at least, within its hours.
    fn usual_seconds(&self) -> i64 {
        let minutes = (0..60).filter(|minute| self.cron.minutes >> minute & 1 == 1);
        let times = minutes.flat_map(|minute| {
            (0..60)
                .filter(|second| self.cron.seconds >> second & 1 == 1)
                .map(move |second| minute * 60 + second)
        });
        let times: Vec<i64> = times.collect();
        let next = times.iter().skip(1).copied().chain(times.first().map(|first| first + 3_600));
        times.iter().zip(next).map(|(time, next)| next - time).min().unwrap_or(3_600)
    }

    /// Returns the first reading of a clock that fits, from one on.
    fn reading_from(&self, from: DateTime) -> Option<DateTime> {
        let (date, time) = (from.date(), from.time());
        let second =
            i64::from(time.hour()) * 3_600 + i64::from(time.minute()) * 60 + i64::from(time.second());
        if self.fits(date)
            && let Some(second) = self.second_from(second)
        {
            return at_second(date, second);
        }
        let mut date = date.tomorrow().ok()?;
        for _ in 0..=MONTHS_MAX {
            if self.cron.months >> date.month() & 1 == 1 {
                let month = date.month();
                while date.month() == month {
                    if self.fits(date) {
                        return at_second(date, self.second_from(0)?);
                    }
                    date = date.tomorrow().ok()?;
                }
            } else {
                date = date.last_of_month().tomorrow().ok()?;
            }
        }
        None
    }

    /// Returns the last reading of a clock that fits, until one.
    fn reading_until(&self, until: DateTime) -> Option<DateTime> {
        let (date, time) = (until.date(), until.time());
        let second =
            i64::from(time.hour()) * 3_600 + i64::from(time.minute()) * 60 + i64::from(time.second());
        if self.fits(date)
            && let Some(second) = self.second_until(second)
        {
            return at_second(date, second);
        }
        let mut date = date.yesterday().ok()?;
        for _ in 0..=MONTHS_MAX {
            if self.cron.months >> date.month() & 1 == 1 {
                let month = date.month();
                while date.month() == month {
                    if self.fits(date) {
                        return at_second(date, self.second_until(86_399)?);
                    }
                    date = date.yesterday().ok()?;
                }
            } else {
                date = date.first_of_month().yesterday().ok()?;
            }
        }
        None
    }

    fn fits(&self, date: Date) -> bool {
        let Cron { days, last_day, months, weekdays, either_day, .. } = self.cron;
        let weekday: Weekday = date.weekday();
        let by_month = days >> date.day() & 1 == 1 || last_day && date.day() == date.days_in_month();
        let by_week = weekdays >> weekday.to_sunday_zero_offset() & 1 == 1;
        months >> date.month() & 1 == 1 && if either_day { by_month || by_week } else { by_month && by_week }
    }

    /// Returns the first second of a day that fits, from one on.
    fn second_from(&self, second: i64) -> Option<i64> {
        let Cron { seconds, minutes, hours, .. } = self.cron;
        let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
        let first = |bits: u64, from: i64| {
            let bits = if from < 64 { bits >> from << from } else { 0 };
            (bits != 0).then(|| i64::from(bits.trailing_zeros()))
        };
        let hours = u64::from(hours);
        if hours >> h & 1 == 1 {
            if minutes >> m & 1 == 1
                && let Some(s) = first(seconds, s)
            {
                return Some(h * 3_600 + m * 60 + s);
            }
            if let Some(m) = first(minutes, m + 1) {
                return Some(h * 3_600 + m * 60 + first(seconds, 0)?);
            }
        }
        Some(first(hours, h + 1)? * 3_600 + first(minutes, 0)? * 60 + first(seconds, 0)?)
    }

    /// Returns the last second of a day that fits, until one.
    fn second_until(&self, second: i64) -> Option<i64> {
        let Cron { seconds, minutes, hours, .. } = self.cron;
        let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
        let last = |bits: u64, until: i64| {
            let bits = if until < 0 { 0 } else { bits & ((2_u64 << until) - 1) };
            (bits != 0).then(|| 63 - i64::from(bits.leading_zeros()))
        };
        let hours = u64::from(hours);
        if hours >> h & 1 == 1 {
            if minutes >> m & 1 == 1
                && let Some(s) = last(seconds, s)
            {
                return Some(h * 3_600 + m * 60 + s);
            }
            if let Some(m) = last(minutes, m - 1) {
                return Some(h * 3_600 + m * 60 + last(seconds, 59)?);
            }
        }
        Some(last(hours, h - 1)? * 3_600 + last(minutes, 59)? * 60 + last(seconds, 59)?)
    }
}

fn at_second(date: Date, second: i64) -> Option<DateTime> {
    date.to_datetime(jiff::civil::Time::midnight()).checked_add(second.seconds()).ok()
}

fn to_timestamp(at: Moment) -> Option<Timestamp> {
    let at = at.as_millisecond();
    (Timestamp::EARLIEST.as_millis()..=Timestamp::LATEST.as_millis())
        .contains(&at)
        .then(|| Timestamp::from_millis(at))
}

#[cfg(test)]
mod tests;
