//! The door: the one place where a peer says who it is and is let in or not. Each node has a table of the
//! roles that it takes; whether this peer may have the role is decided by [`authorize`], for all nodes.
//!
//! Not here: what a node does for a role.

use super::{Handled, Rejection, Service};
use crate::node::ConnId;
use crate::time::Now;
use crate::wire::{BreakerAction, ChaosAction, ErrorCode, Role, Session};

/// What a peer wants to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// To be greeted as this.
    Role(Role),
    /// To change the state of a circuit breaker.
    Operate(BreakerAction),
    /// To have an exchange misbehave.
    Misbehave(ChaosAction),
}

/// Whether a peer of a node may have a right. Everybody may have all of them: nodes listen on loopback, and
/// no peer has an identity yet. This is where identities will be asked.
///
/// # Errors
/// What the peer is sent.
pub(crate) fn authorize(_node: &str, _permission: Permission) -> Result<(), Rejection> {
    Ok(())
}

/// How a node answers a peer that introduces itself.
#[derive(Debug)]
pub(crate) enum Admission<P> {
    /// It is what it says. This is the answer.
    Accepted(P, Session),
    /// It is what it says. The node answers itself, now or later.
    Pending(P),
    /// Not yet: it is to look at this answer and to introduce itself again.
    Retry(Session),
    /// Another reactor of the process serves it.
    HandOver(usize),
    /// No.
    Refused(Rejection),
}

impl<P> Admission<P> {
    /// No, for this reason.
    #[must_use]
    pub(crate) fn refused(code: ErrorCode, text: &'static str) -> Admission<P> {
        Admission::Refused(Rejection::new(code, text))
    }
}

/// What greets a peer of one role.
pub(crate) type Admit<S> = fn(&mut S, Now, ConnId, &Session) -> Admission<<S as Service>::Peer>;

/// The roles that a node takes, and what greets each.
#[derive(Debug)]
pub(crate) struct Roles<S: Service> {
    /// Sends a sequence to hand out.
    pub publisher: Option<Admit<S>>,
    /// Sends a part of the sequence to keep.
    pub feeder: Option<Admit<S>>,
    /// Is handed a sequence.
    pub subscriber: Option<Admit<S>>,
    /// Takes the exchange's feed.
    pub consumer: Option<Admit<S>>,
    /// Brings core a feed of its own.
    pub producer: Option<Admit<S>>,
    /// Asks questions. Whoever is welcomed as this may.
    pub querier: Option<Admit<S>>,
}

impl<S: Service> Roles<S> {
    /// Nobody.
    pub(crate) const NONE: Roles<S> = Roles {
        publisher: None,
        feeder: None,
        subscriber: None,
        consumer: None,
        producer: None,
        querier: None,
    };

    fn admit(&self, role: Role) -> Option<Admit<S>> {
        match role {
            Role::Publisher => self.publisher,
            Role::Feeder => self.feeder,
            Role::Subscriber => self.subscriber,
            Role::Consumer => self.consumer,
            Role::Producer => self.producer,
            Role::Querier => self.querier,
        }
    }
}

/// A peer introduces itself.
pub(super) fn greet<S: Service>(
    service: &mut S,
    now: Now,
    conn: ConnId,
    session: &Session,
) -> Handled {
    let admission = admit(service, now, conn, session).unwrap_or_else(Admission::Refused);
    let asks = session.role == Role::Querier as u8;
    let sources = [Role::Publisher, Role::Feeder, Role::Producer];
    let is_source = sources.map(|role| role as u8).contains(&session.role);
    let connections = service.connections_mut();
    match admission {
        Admission::Accepted(peer, answer) => {
            if is_source {
                connections.set_source(conn);
            }
            connections.greet(conn, asks, peer);
            connections.send(conn, answer);
        }
        Admission::Pending(peer) => {
            connections.greet(conn, asks, peer);
            service.on_greeted(now, conn, session);
        }
        Admission::Retry(answer) => connections.send(conn, answer),
        Admission::HandOver(reactor) => {
            connections.hand_over(conn, reactor);
            return Handled::NotHere;
        }
        Admission::Refused(rejection) => connections.refuse(conn, rejection.code, &rejection.text),
    }
    Handled::Here
}

fn admit<S: Service>(
    service: &mut S,
    now: Now,
    conn: ConnId,
    session: &Session,
) -> Result<Admission<S::Peer>, Rejection> {
    let found = Role::from_number(session.role)
        .and_then(|role| S::ROLES.admit(role).map(|admit| (role, admit)));
    let Some((role, admit)) = found else {
        let text = format!("{} has no such role", S::TITLE);
        return Err(Rejection::new(ErrorCode::Unexpected, text));
    };
    authorize(S::TITLE, Permission::Role(role))?;
    Ok(admit(service, now, conn, session))
}
