//! How answers are sent: with their length, in pieces as the client takes them, or a part of them; and the memory that they
//! take meanwhile.

use bytes::Bytes;

use super::Gateway;
use super::answers::Writer;
use super::door::{Door, Job};
use super::http_side::NO_STORE;
use super::memory::{About, no_room};
use super::ranges::Wanted;
use crate::http::Response;
use crate::limits;
use crate::node::{Action, ConnId, Level};
use crate::time::Now;

/// Pieces that an answer may have to be sent with its length.
const PIECES_AT_ONCE: usize = 2;

impl Gateway {
    /// Takes memory for an answer. Whoever gets none is told so.
    fn hold(&mut self, now: Now, conn: ConnId, bytes: usize, about: About) -> bool {
        let Some(Door::Http(door)) = self.doors.get_mut(conn) else { return false };
        if !self.front.memory.take(bytes, about) {
            self.refuse(now, conn, &no_room());
            return false;
        }
        door.held += bytes;
        true
    }

    /// Responds with what was made for this request alone.
    pub(super) fn answer(&mut self, now: Now, conn: ConnId, response: Response, about: About) {
        if self.hold(now, conn, response.body.len(), about) {
            self.respond(now, conn, response.with_header(NO_STORE.0, NO_STORE.1));
        }
    }

    /// The part of an answer that this client was shown before.
    pub(super) fn kept_part(
        &mut self,
        now: Now,
        conn: ConnId,
        wanted: Option<&Wanted>,
    ) -> Option<Response> {
        let Some(Door::Http(door)) = self.doors.get(conn) else { return None };
        let part = self.kept.find(now.mono, (conn, door.from), wanted?)?;
        Some(part.with_header("Accept-Ranges", "bytes"))
    }

    /// Begins to send an answer: at once, if it is short.
    pub(super) fn begin_answer(
        &mut self,
        now: Now,
        conn: ConnId,
        mut writer: Writer,
        wanted: Option<&Wanted>,
    ) {
        let wanted = wanted.filter(|_| writer.status == 200);
        let mut piece = Vec::new();
        // The length of what is asked for in parts is known when it is whole. It has a bound as its rows have.
        for number in 0.. {
            if writer.is_over() || (wanted.is_none() && number >= PIECES_AT_ONCE) {
                break;
            }
            if let Err(problem) = writer.write(&mut piece) {
                self.refuse(now, conn, &problem);
                return;
            }
        }
        let (status, kind) = (writer.status, writer.format.content_type());
        if writer.is_over() {
            // Without the room that it grew into.
            let body = Bytes::from(piece.into_boxed_slice());
            let response = match (wanted, self.doors.get(conn)) {
                (Some(wanted), Some(Door::Http(door))) => {
                    self.kept.keep(now.mono, (conn, door.from), wanted, kind, &body);
                    wanted.cut(&body, kind)
                }
                _ => Response::new(status, kind, body),
            };
            self.answer(now, conn, response.with_header("Accept-Ranges", "bytes"), About::Market);
            return;
        }
        let bytes = writer.rows_bytes() + limits::GATEWAY_WRITING_BYTES_MAX;
        if !self.hold(now, conn, bytes, About::Market) {
            return;
        }
        let Some(Door::Http(door)) = self.doors.get_mut(conn) else { return };
        door.http.begin_stream(now.mono, status, kind, &[NO_STORE]);
        door.http.push(&piece);
        door.job = Job::Writing(Box::new(writer));
        self.mark_dirty(conn);
    }

    /// Writes more of an answer that the client takes.
    pub(super) fn write_more(&mut self, now: Now, conn: ConnId) {
        let Some(Door::Http(door)) = self.doors.get_mut(conn) else { return };
        let Job::Writing(writer) = &mut door.job else { return };
        if door.http.outgoing_bytes() >= limits::GATEWAY_ANSWER_BYTES_WAITING {
            return;
        }
        let mut piece = Vec::new();
        let written = writer.write(&mut piece);
        let is_over = writer.is_over();
        door.http.push(&piece);
        debug_assert!(door.http.outgoing_bytes() <= limits::GATEWAY_WRITING_BYTES_MAX);
        if let Err(problem) = written {
            // Its beginning is sent. Without the last chunk the client sees that something is missing.
            door.http.abort();
            door.job = Job::None;
            if door.http.is_over() {
                self.actions.push_back(Action::Close(conn));
            }
            self.counts.problems += 1;
            self.actions.push_back(Action::Log(Level::Warn, problem.detail));
            return;
        }
        if is_over {
            door.http.end_stream(now.mono);
            door.job = Job::None;
            self.release_sent(conn);
        }
    }

    /// Gives the memory of an answer back, once all of it is sent: a body is one piece of memory until then.
    pub(super) fn release_sent(&mut self, conn: ConnId) {
        if let Some(Door::Http(door)) = self.doors.get_mut(conn)
            && door.http.outgoing_bytes() == 0
            && !matches!(door.job, Job::Writing(_))
        {
            self.front.memory.give_back(std::mem::take(&mut door.held));
        }
    }
}
