//! Whether a connection may go on: what the filters before the TCP proxy say.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::errand::{self, Answer};
use crate::flags::Flag;
use crate::policy::authz::ConnectionAuthzView;
use crate::policy::{ConnectionRulesView, Metadata, Subject};
use crate::tcp::Session;
use crate::tcp::relay::{Carried, End};

impl Session {
    /// Counts the connection: whether the rules let it pass that ask nobody, and come before all that do.
    pub(crate) fn is_allowed(&mut self) -> bool {
        self.view.stats.cx_total.increment();
        let view = self.view.clone();
        view.rules.iter().all(|rules| self.passes(rules))
    }

    /// Whether the rest lets it pass, from the first filter that asks a service on.
    pub(super) async fn is_authorized(&mut self) -> bool {
        let view = self.view.clone();
        for rules in &view.rules_behind {
            let passes = match rules {
                ConnectionRulesView::Ask(asking) => self.may_go_on(asking).await,
                rules => self.passes(rules),
            };
            if !passes {
                return false;
            }
        }
        true
    }

    fn passes(&mut self, rules: &ConnectionRulesView) -> bool {
        let mut left = Metadata::default();
        let checked = rules.check(&self.subject(&self.metadata()), &mut left);
        self.leave(left);
        let Err(details) = checked else {
            return true;
        };
        let listener = self.registered.listener();
        tracing::debug!(listener, peer = %self.peer, details, "connection denied");
        if let Some(details) = details {
            self.told.get_or_insert_default().termination = Some(details.into());
        }
        self.end_unconnected();
        false
    }

    /// Asks a service, as long as the client is there.
    async fn may_go_on(&mut self, asking: &ConnectionAuthzView) -> bool {
        let metadata = self.metadata();
        let Some(question) = asking.question(self.peer, &self.subject(&metadata)) else {
            return true;
        };
        let worker = self.worker.clone();
        let begin = worker.clock.now();
        let mut answer = Answer::default();
        self.timer.set_at(self.last_moment);
        let asked = {
            let mut errand = pin!(errand::run(&worker, asking.errand(&question), &mut answer));
            let mut gone = pin!(self.client.gone());
            poll_fn(|cx| {
                if let Poll::Ready(asked) = errand.as_mut().poll(cx) {
                    return Poll::Ready(Ok(asked));
                }
                if gone.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(End::ClientGone));
                }
                let passed = self.timer.poll_passed(|| worker.clock.now(), cx);
                passed.map(|()| match worker.timers.is_cut() {
                    true => Err(End::Cut),
                    false => Err(End::TooLong),
                })
            })
            .await
        };
        self.timer.rest();
        let asked = match asked {
            Ok(asked) => asked,
            Err(end) => {
                asking.abandon();
                self.end(end);
                self.end_unconnected();
                return false;
            }
        };
        let took = worker.clock.now().saturating_sub(begin);
        match asking.settle(asked, &answer, took) {
            Ok(left) => {
                self.leave(left);
                true
            }
            Err(details) => {
                let listener = self.registered.listener();
                tracing::debug!(listener, peer = %self.peer, details, "connection denied");
                self.flags.set(Flag::UAEX);
                self.told.get_or_insert_default().details = Some(details);
                self.end_unconnected();
                false
            }
        }
    }

    /// Who connects to what.
    fn subject<'a>(&'a self, metadata: &'a Metadata) -> Subject<'a> {
        let secured = self.client.secured();
        let shown = secured.and_then(|secured| secured.server_name.as_deref());
        let direct = self.registered.direct().unwrap_or(self.peer);
        Subject {
            request: None,
            scheme: "",
            peer: self.peer.ip().to_canonical(),
            direct: direct.ip().to_canonical(),
            client: self.peer.ip().to_canonical(),
            destination: self.original.or_else(|| self.client.local_address()),
            secured: secured.map(|secured| &**secured),
            server_name: shown.or(self.registered.server_name()),
            metadata,
        }
    }

    /// What filters have found out so far.
    fn metadata(&self) -> Metadata {
        let told = self.told.as_ref();
        told.map_or_else(Metadata::default, |told| told.metadata.clone())
    }

    fn leave(&mut self, left: Metadata) {
        if !left.is_empty() {
            self.told.get_or_insert_default().metadata.take_over(left);
        }
    }

    /// Records the end of a connection that has led nowhere.
    fn end_unconnected(&mut self) {
        self.begin_count(None, None);
        self.record(None, Carried::default());
    }
}
