//! Exchanges for whoever holds the connection: an answer that says nothing is held back until there is something to say.

use std::pin::pin;
use std::sync::Arc;

use midge_core::exchange::Parked;
use midge_protocol::exchange::{Answer, Request};
use midge_protocol::{MachineName, limits};
use tokio::sync::Notify;

use super::{Context, ExchangeError, Exchanged, exchange};
use crate::midge::{Inner, Midge};
use crate::waiters::Hub;

impl Midge {
    /// Answers a host: at once where there is something to say, else when there is, or when it has waited long enough.
    pub(crate) async fn answer_host(
        &self,
        name: MachineName,
        secret_hash: String,
        request: Request,
    ) -> Result<Answer, ExchangeError> {
        let inner = &self.inner;
        let parked = Parked::new(&request, inner.clock.now());
        let Hub { machines, queues, .. } = &inner.waiters;
        let wakes = || (machines.wakes(), queues.wakes());
        let (of_machines, of_queues) = wakes();
        let mut done = inner.exchange(&name, &secret_hash, &request).await?;
        let replaces = !done.answer.left && !done.stale && !done.again;
        // With the one below.
        let mut at_the_look = Some((of_machines + u64::from(replaces), of_queues));
        // One that is said again waits beside the first.
        let machine = if done.again { machines.notifier(&name) } else { Arc::default() };
        if done.answer.left {
            // The Machine's older request, still parked, looks again and is told so too.
            machines.wake(&name);
        } else if replaces {
            // The older one sees that this one is newer, and is answered empty.
            machines.replace(&name, &machine);
        }
        let queue = match &done.queue {
            Some(queue) if request.room > 0 => queues.notifier(queue),
            _ => Arc::new(Notify::new()),
        };
        let mut stopping = inner.stopping.subscribe();
        let is_answered =
            |done: &Exchanged| parked.is_answered(&request, &done.answer, done.stale, inner.clock.now());
        loop {
            if is_answered(&done) || *stopping.borrow() {
                return Ok(done.answer);
            }
            // Both ears are open before the look, so that nothing that comes after it is missed. Which queue the Machine
            // serves only the first look has told: it counts where nobody was woken meanwhile.
            let (mut told, mut work) = (pin!(machine.notified()), pin!(queue.notified()));
            told.as_mut().enable();
            work.as_mut().enable();
            if at_the_look.take() != Some(wakes()) {
                if !machines.has(&name, &machine) {
                    return Ok(Answer::default());
                }
                done = inner.exchange(&name, &secret_hash, &request).await?;
                if is_answered(&done) {
                    continue;
                }
            }
            let now = inner.clock.now();
            let look_at = done.look_at.map_or(parked.until, |at| at.min(parked.until));
            tokio::select! {
                () = told => {}
                () = work => {}
                () = tokio::time::sleep(look_at.since(now).min(limits::HEARTBEAT)) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
    }
}

impl Inner {
    /// Makes one exchange, and wakes who waits for what came of it.
    async fn exchange(
        &self,
        name: &MachineName,
        secret_hash: &str,
        request: &Request,
    ) -> Result<Exchanged, ExchangeError> {
        let context = Context { catalog: self.catalog.get(), jitter: rand::random() };
        let (name, secret_hash) = (name.clone(), secret_hash.to_owned());
        let now = self.clock.now();
        let mut done = exchange(&*self.store, context, name, secret_hash, request.clone(), now).await?;
        let running = request.running.iter().map(|running| &running.attempt.job);
        done.answer.followed = self.waiters.news.is_any_waited_for(running);
        self.tell_ended(&done.ended);
        self.waiters.news.wake_each(&done.news);
        if done.changed {
            self.waiters.dispatcher.notify_one();
        }
        done.tell.iter().for_each(|machine| self.waiters.machines.wake(machine));
        done.returned.iter().for_each(|queue| self.wake_queue(queue));
        if let (true, Some(queue)) = (done.unblocked, &done.queue) {
            self.wake_queue(queue);
        }
        Ok(done)
    }
}
