//! Whose turn it is to be sent a piece of core's journal, and what becomes of the piece.

use super::*;

impl Feed {
    /// What became of the piece under way.
    fn take_piece(&mut self, now: Now, end: PieceEnd) {
        let Some(conn) = self.past.asked.take() else { return };
        let Some(mut behind) = self.past.all.remove(&conn) else { return };
        if matches!(behind.stage, Stage::Asked) {
            self.take_piece_of(now, conn, &mut behind, end);
        }
        self.past.all.insert(conn, behind);
    }

    fn take_piece_of(&mut self, now: Now, conn: ConnId, behind: &mut Behind, end: PieceEnd) {
        let mut piece = match end {
            PieceEnd::Whole(piece) if piece.next_seq > behind.next_seq => piece,
            PieceEnd::Broken if behind.attempts < limits::GATEWAY_PIECE_ATTEMPTS => {
                behind.stage = Stage::Wants;
                self.past.waiting.push_front(conn);
                return;
            }
            PieceEnd::Whole(_) | PieceEnd::Broken | PieceEnd::None => {
                return self.give_up(now, conn, behind);
            }
        };
        behind.attempts = 0;
        // What the journal has removed is one gap, however far it reaches.
        let oldest = Seq::number(self.broker.oldest_seq(Request::MARKET));
        let removed_to = piece.covered_from.min(oldest);
        if let (Some(from), Some(to)) =
            (Seq::new(piece.next_seq), Seq::new(removed_to - u64::from(removed_to > 0)))
            && from <= to
        {
            piece.frames.push(Frame::seal(Gap::uncounted(GapReason::SourceLost, from, to)));
            piece.next_seq = removed_to;
        }
        let few = limits::GATEWAY_PIECE_FRAMES_MAX / 4;
        behind.span = match piece.frames.len() < few {
            true => (behind.span * 2).min(limits::GATEWAY_PIECE_SPAN_MAX),
            false => limits::GATEWAY_PIECE_FRAMES_MAX as u64,
        };
        self.sort_out(&behind.wish.patterns, &mut piece);
        behind.name_all(&mut piece);
        if piece.frames.is_empty() {
            behind.next_seq = piece.next_seq;
            self.go_on(now, conn, behind);
            return;
        }
        piece.frames.shrink_to_fit();
        (behind.taken_at, behind.moved_at) = (now.mono, now.mono);
        behind.stage = Stage::Sends(piece, 0);
        self.past.holding.insert(conn);
    }

    /// Lets go of what the patterns do not mean.
    fn sort_out(&self, patterns: &[Pattern], piece: &mut Piece) {
        if patterns.iter().any(Pattern::is_everything) {
            return;
        }
        let Some(values) = self.broker.last_values(Request::MARKET) else { return };
        let mut known = BTreeMap::new();
        let names = piece.names.iter().filter(|it| it.kind == Kind::Definition as u8);
        let names: BTreeMap<InstrumentId, &Frame> = names.map(|it| (it.instrument(), it)).collect();
        piece.frames.retain(|frame| {
            if frame.kind == Kind::Gap as u8 {
                return true;
            }
            let kinds = *known.entry(frame.instrument()).or_insert_with(|| {
                let definition = values.definition(frame.instrument().index());
                let definition = definition.or_else(|| names.get(&frame.instrument()).copied());
                let Some(it) = definition.and_then(Frame::view::<Definition>) else { return 0 };
                let names = it.names();
                let meaning = patterns.iter().filter(|pattern| pattern.means(&names));
                meaning.fold(0, |kinds, pattern| kinds | pattern.kinds())
            });
            frame.is_naming() && kinds != 0 || kinds & frame.kind().map_or(0, Kind::mask) != 0
        });
    }

    /// Takes the heartbeats for those that have not subscribed. They say nothing to a browser that reads a piece, and the
    /// inner broker would take it for one that reads nothing.
    fn take_words(&mut self, now: Now) {
        let idle = self.past.all.iter().filter(|(_, it)| !matches!(it.stage, Stage::Joining(_)));
        let idle: Vec<ConnId> = idle.map(|(conn, _)| *conn).collect();
        for conn in idle {
            let (frames, _) = as_frames(self.broker.outgoing(now, conn).head);
            let words = frames.iter().take_while(|it| it.view::<Refusal>().is_none()).count();
            if words > 0 {
                self.broker.handle_sent(now, conn, words * FRAME_BYTES);
            }
        }
    }

    /// Asks for pieces, takes what has come, and gives up what cannot come. Whoever has something is returned.
    pub(in crate::gateway) fn look_after_past(
        &mut self,
        now: Now,
        front: &mut Front,
    ) -> Vec<ConnId> {
        let mut woken = Vec::new();
        if let Some(end) = front.poll_piece() {
            woken.extend(self.past.asked);
            self.take_piece(now, end);
        }
        if self.past.next_words <= now.mono && !self.past.all.is_empty() {
            self.past.next_words = now.mono + limits::GATEWAY_SWEEP_EVERY;
            self.take_words(now);
        }
        let is_able = front.can_replay(self.epoch);
        self.past.unable_since = (!is_able).then(|| self.past.unable_since.unwrap_or(now.mono));
        let seen = (self.epoch.0, self.states_behind());
        if std::mem::replace(&mut self.past.seen, seen) != seen {
            woken.extend(self.past.all.keys());
        }
        let wait = limits::GATEWAY_PIECE_WAIT;
        let is_away = self.past.unable_since.is_some_and(|since| now.mono.since(since) >= wait);
        if is_able && !self.past.waiting.is_empty() && self.past.is_full() {
            self.take_unread_pieces(now);
        }
        for _ in 0..limits::GATEWAY_REJOINS_PER_TURN_MAX {
            let Some(conn) = self.past.waiting.pop_front() else { break };
            let Some(mut behind) = self.past.all.remove(&conn) else { continue };
            let waited = now.mono.since(behind.wants_since);
            let may_ask = is_able && front.is_free() && !self.past.is_full();
            let is_over = is_away || waited >= limits::GATEWAY_PIECE_TURN_WAIT;
            let mut is_first = false;
            match behind.stage {
                // Another epoch: it joins again when it is asked for what it has.
                Stage::Wants if behind.epoch_id != self.epoch.0 => {}
                Stage::Wants if may_ask => self.ask_core(now, front, conn, &mut behind),
                Stage::Wants if is_over => {
                    self.give_up(now, conn, &mut behind);
                    woken.push(conn);
                }
                Stage::Wants => is_first = true,
                _ => {}
            }
            self.past.all.insert(conn, behind);
            if is_first {
                self.past.waiting.push_front(conn);
                break;
            }
        }
        woken.into_iter().filter_map(|conn| self.owner(conn)).collect()
    }

    /// Takes pieces back from those that do not read them.
    fn take_unread_pieces(&mut self, now: Now) {
        let is_unread = |conn: &&ConnId| {
            let behind = self.past.all.get(conn);
            let unread = limits::GATEWAY_PIECE_UNREAD_MAX;
            behind.is_some_and(|it| now.mono.since(it.moved_at) >= unread)
        };
        let unread: Vec<ConnId> = self.past.holding.iter().filter(is_unread).copied().collect();
        for conn in unread {
            self.past.holding.remove(&conn);
            if let Some(mut behind) = self.past.all.remove(&conn) {
                self.past.line_up(now, conn, &mut behind);
                self.past.all.insert(conn, behind);
            }
        }
    }

    fn ask_core(&mut self, now: Now, front: &mut Front, conn: ConnId, behind: &mut Behind) {
        let oldest = Seq::number(self.broker.oldest_seq(Request::MARKET));
        let to_seq = behind.next_seq.saturating_add(behind.span).min(oldest);
        if to_seq <= behind.next_seq {
            self.join_ring(now, conn, behind);
        } else if front.ask_piece(now, behind.query(to_seq)) {
            behind.attempts += 1;
            behind.stage = Stage::Asked;
            self.past.asked = Some(conn);
        } else {
            // Its breaker lets nothing through.
            self.give_up(now, conn, behind);
        }
    }
}
