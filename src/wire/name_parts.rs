//! The whole name of an instrument as it travels: beside its definition, in parts of 24 bytes, for instruments whose symbol only
//! stands for their name. No other frame grows by it.

use super::data::InstrumentName;
use super::{Flags, Frame, FullName, InstrumentId, Symbol, U16, padded};

/// Bytes of the text of one part.
const PART_BYTES: usize = 24;

impl InstrumentName {
    /// Parts of the longest name.
    pub const PARTS_MAX: usize = FullName::BYTES_MAX.div_ceil(PART_BYTES);

    /// The parts of a name, in order.
    pub fn parts(instrument: InstrumentId, name: &FullName) -> impl Iterator<Item = Frame> + use<> {
        let name = *name;
        let count = name.as_str().len().div_ceil(PART_BYTES);
        (0_u16..).take(count).map(move |part| {
            let place = usize::from(part);
            let text = name.as_str().get(place * PART_BYTES..).unwrap_or_default();
            let text = text.get(..PART_BYTES).unwrap_or(text);
            let last = if place + 1 == count { Flags::LAST } else { 0 };
            Frame::seal(InstrumentName {
                flags: U16::new(part << Flags::PART_SHIFT | last),
                instrument: instrument.into(),
                text: padded(text),
                ..InstrumentName::default()
            })
        })
    }

    /// Which part it is: 0 is the first.
    #[must_use]
    pub fn part(&self) -> usize {
        usize::from((self.flags.get() & Flags::PART) >> Flags::PART_SHIFT)
    }

    /// Whether the name ends with it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.flags.get() & Flags::LAST != 0
    }

    /// Its text, without the padding.
    #[must_use]
    pub fn text_bytes(&self) -> &[u8] {
        let end = self.text.iter().position(|&byte| byte == 0).unwrap_or(PART_BYTES);
        self.text.get(..end).unwrap_or_default()
    }

    /// Whether it can be a part of a name: printable ASCII, full unless it is the last one, and not beyond the longest name.
    pub(super) fn is_part(&self) -> bool {
        let text = self.text_bytes();
        let bytes = self.part() * PART_BYTES + text.len();
        text.iter().all(|byte| (b' '..=b'~').contains(byte))
            && self.text.iter().skip(text.len()).all(|&byte| byte == 0)
            && bytes <= FullName::BYTES_MAX
            && if self.is_last() { !text.is_empty() } else { text.len() == PART_BYTES }
    }
}

/// The parts of one instrument's name, as far as they have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameParts([Option<Frame>; InstrumentName::PARTS_MAX]);

impl NameParts {
    /// Takes a part in; another frame, and one that is older than what is known, changes nothing. Whether it did.
    pub fn note(&mut self, frame: &Frame) -> bool {
        let Some(name) = frame.view::<InstrumentName>() else { return false };
        let Some(place) = self.0.get_mut(name.part()) else { return false };
        if place.is_some_and(|known| known.seq > frame.seq) {
            return false;
        }
        *place = Some(*frame);
        true
    }

    /// The frames, in order.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.0.iter().flatten()
    }

    /// The frames by part.
    #[must_use]
    pub fn by_part(&self) -> [Option<&Frame>; InstrumentName::PARTS_MAX] {
        self.0.each_ref().map(Option::as_ref)
    }

    /// Forgets what has its place at `seq` or behind it. Whether anything is left.
    pub fn void_from(&mut self, seq: u64) -> bool {
        self.0.iter_mut().for_each(|part| *part = part.filter(|frame| frame.seq.get() < seq));
        self.0.iter().any(Option::is_some)
    }

    /// The whole name, when all parts are there and this symbol stands for what they say. Who sent them may have lost some,
    /// or lie.
    #[must_use]
    pub fn full_name(&self, symbol: &Symbol) -> Option<FullName> {
        let mut text = Vec::with_capacity(FullName::BYTES_MAX);
        for part in &self.0 {
            let name = part.as_ref()?.view::<InstrumentName>()?;
            text.extend_from_slice(name.text_bytes());
            if name.is_last() {
                let name: FullName = std::str::from_utf8(&text).ok()?.parse().ok()?;
                return (name.symbol() == *symbol).then_some(name);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FrameError, Kind, U64};
    use super::*;

    fn name(text: &str) -> FullName {
        text.parse().unwrap()
    }

    fn parts(text: &str) -> Vec<Frame> {
        InstrumentName::parts(InstrumentId::default(), &name(text)).collect()
    }

    #[test]
    fn a_name_comes_back_whole_from_its_parts_in_any_order() {
        for length in 1..=FullName::BYTES_MAX {
            let text: String = ('!'..='~').cycle().take(length).collect();
            let frames = parts(&text);
            assert!(frames.iter().all(|frame| frame.check() == Ok(())), "{length}");
            assert_eq!(frames.len(), length.div_ceil(24));
            let mut known = NameParts::default();
            let symbol = Symbol::standing_for(&text);
            for frame in frames.iter().rev() {
                assert_eq!(known.full_name(&symbol), None, "a part is missing");
                assert!(known.note(frame));
            }
            assert_eq!(known.full_name(&symbol), Some(name(&text)));
            assert_eq!(known.frames().copied().collect::<Vec<_>>(), frames);
        }
    }

    #[test]
    fn parts_of_two_names_are_none() {
        let texts = ["A NAME OF TWO PARTS WHICH ENDS SO", "A NAME OF TWO PARTS WHICH ENDS ELSE"];
        let mut known = NameParts::default();
        known.note(&parts(texts[0])[0]);
        known.note(&parts(texts[1])[1]);
        assert_eq!(known.full_name(&Symbol::standing_for(texts[0])), None);
        known.note(&parts(texts[0])[1]);
        assert_eq!(known.full_name(&Symbol::standing_for(texts[0])), Some(name(texts[0])));
    }

    #[test]
    fn what_no_name_can_have_is_refused() {
        let bad = |change: fn(&mut InstrumentName)| {
            let frame = parts("A NAME OF TWO PARTS WHICH ENDS SO")[1];
            let mut part = *frame.view::<InstrumentName>().unwrap();
            change(&mut part);
            Frame::seal(part).check()
        };
        let refused = Err(FrameError::Name);
        assert_eq!(bad(|_| {}), Ok(()));
        assert_eq!(bad(|it| it.text[0] = 0x1b), refused, "a control character");
        assert_eq!(bad(|it| it.text[0] = 0xE9), refused, "no ASCII");
        assert_eq!(bad(|it| it.text[23] = b'X'), refused, "text behind the end");
        assert_eq!(bad(|it| it.text = [0; 24]), refused, "nothing");
        assert_eq!(bad(|it| it.flags = U16::new(1 << Flags::PART_SHIFT)), refused, "not full");
        let last = Flags::LAST | Flags::PART;
        assert_eq!(bad(|it| it.flags = U16::new(Flags::LAST | Flags::PART)), refused, "too long");
        assert_eq!(last >> Flags::PART_SHIFT, 3);
        assert_eq!(
            bad(|it| it.flags = U16::new(Flags::HALTED)),
            Err(FrameError::Reserved(Kind::InstrumentName as u8))
        );
    }

    #[test]
    fn an_older_part_changes_nothing_and_a_void_one_is_forgotten() {
        let at = |seq: u64, text: &str| {
            let mut frame = parts(text)[0];
            frame.seq = U64::new(seq);
            frame.renew_crc();
            frame
        };
        let mut known = NameParts::default();
        assert!(known.note(&at(7, "BAC-I*")));
        assert!(!known.note(&at(6, "BAC-J*")));
        assert_eq!(known.full_name(&Symbol::standing_for("BAC-I*")), Some(name("BAC-I*")));
        assert!(known.void_from(8) && !known.void_from(7));
        assert_eq!(known, NameParts::default());
    }
}
