//! What is wrong in the body of a frame: reserved fields that are set, and numbers that are none of the protocol's.
//! What is *not* here: header and checksum, which [`Frame::check`] looks at first.

use super::control::*;
use super::data::{Definition, InstrumentName, QUANTITY_DECIMALS_MAX, Silence, holds};
use super::frame::{Frame, FrameError, Kind};
use super::kinds::DataKind;
use super::{EndStatus, GapReason, Mode, NodeStatus, Op};

/// The second half of [`Frame::check`]: reserved fields and enumerations.
pub(super) fn check_body(frame: &Frame) -> Result<(), FrameError> {
    let well_formed = match frame.kind() {
        Some(Kind::Session) => holds::<Session>(frame),
        Some(Kind::Error) => holds::<Refusal>(frame),
        Some(Kind::Heartbeat) => holds::<Heartbeat>(frame),
        Some(Kind::Ack) => holds::<Ack>(frame),
        Some(Kind::Subscribe) => holds::<Subscribe>(frame),
        Some(Kind::Subscribed) => holds::<Subscribed>(frame),
        Some(Kind::SnapshotEnd) => holds::<SnapshotEnd>(frame),
        Some(Kind::Gap) => holds::<Gap>(frame),
        Some(Kind::Resume) => holds::<Resume>(frame),
        Some(Kind::Query) => holds::<Query>(frame),
        Some(Kind::Run) => holds::<Run>(frame),
        Some(Kind::NodeAnswer) => holds::<NodeAnswer>(frame),
        Some(Kind::End) => holds::<Ended>(frame),
        Some(Kind::Metric) => holds::<Metric>(frame),
        Some(Kind::Text) => holds::<Text>(frame),
        Some(Kind::QueryMore) => holds::<QueryMore>(frame),
        Some(Kind::Counted) => holds::<Counted>(frame),
        Some(Kind::NodeExplain) => holds::<NodeExplain>(frame),
        Some(Kind::Lineage) => holds::<Lineage>(frame),
        Some(_) => DataKind::of(frame).and_then(|row| row.body_check).is_none_or(|it| it(frame)),
        None => false,
    };
    if well_formed { Ok(()) } else { Err(body_error(frame)) }
}

/// What is wrong with a body that is not well formed: the first number that is none of the protocol's, else a reserved
/// field.
fn body_error(frame: &Frame) -> FrameError {
    let kind = frame.kind;
    let unknown = |field, number: u16, is_known: bool| {
        (!is_known).then_some(FrameError::Unknown { kind, field, number })
    };
    let status = |number: u8, is_known: bool| unknown("status", number.into(), is_known);
    let found = if let Some(it) = frame.view::<Session>() {
        let options = it.options.get();
        unknown("role", it.role.into(), it.has_known_role())
            .or_else(|| unknown("options", options, options <= Session::OPTIONS))
    } else if let Some(it) = frame.view::<Subscribe>() {
        unknown("mode", it.mode.into(), Mode::from_number(it.mode).is_some())
    } else if let Some(it) = frame.view::<Query>() {
        unknown("op", it.op.into(), Op::from_number(it.op).is_some())
            .or_else(|| unknown("options", it.options.into(), it.options <= Query::OPTIONS))
    } else if let Some(it) = frame.view::<Gap>() {
        unknown("reason", it.reason.into(), GapReason::from_number(it.reason).is_some())
    } else if let Some(it) = frame.view::<NodeAnswer>() {
        status(it.status, NodeStatus::from_number(it.status).is_some())
    } else if let Some(it) = frame.view::<Ended>() {
        status(it.status, EndStatus::from_number(it.status).is_some())
    } else if let Some(it) = frame.view::<NodeExplain>() {
        unknown("what", it.what.into(), it.what <= NodeExplain::WHAT)
    } else if let Some(it) = frame.view::<Lineage>() {
        unknown("what", it.what.into(), it.what <= (Lineage::CHOSEN | Lineage::GIVEN_UP))
    } else if let Some(it) = frame.view::<Definition>() {
        let decimals = it.decimals();
        let is_known = decimals.price <= Definition::DECIMALS_MAX;
        let of_quantities = decimals.quantity <= QUANTITY_DECIMALS_MAX;
        unknown("decimals", decimals.price.into(), is_known)
            .or_else(|| unknown("qty_decimals", decimals.quantity.into(), of_quantities))
            .or(Some(FrameError::Symbol))
    } else if frame.view::<InstrumentName>().is_some() {
        Some(FrameError::Name)
    } else if frame.view::<Silence>().is_some() {
        Some(FrameError::Symbol)
    } else {
        None
    };
    found.unwrap_or(FrameError::Reserved(kind))
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;

    use super::super::{Symbol, U16, U32};
    use super::*;

    #[test]
    fn reserved_fields_and_unknown_numbers_are_refused() {
        let session = Session { role: 77, ..Session::default() };
        let role = FrameError::Unknown { kind: Kind::Session as u8, field: "role", number: 77 };
        assert_eq!(Frame::seal(session).check(), Err(role));
        let run = Run { reserved: [1; 52], ..Run::default() };
        assert_eq!(Frame::seal(run).check(), Err(FrameError::Reserved(Kind::Run as u8)));
        assert_eq!(Frame::seal(Run::default()).check(), Ok(()));
    }

    #[test]
    fn a_refusal_names_the_field_that_nobody_knows() {
        let said = |frame: Frame| frame.check().unwrap_err().to_string();
        let definition = |decimals: u16, symbol: &[u8; 24]| {
            let mut definition = Definition::new(U32::ZERO.into(), "A".parse().unwrap(), 0);
            definition.flags = U16::new(decimals << 12);
            definition.symbol = Symbol::read_from_bytes(symbol).unwrap();
            Frame::seal(definition)
        };
        let query = Query { op: Op::Last as u8, ..Query::default() };
        for (frame, field) in [
            (Frame::seal(Session { role: 9, ..Session::default() }), "unknown role 9 in"),
            (Frame::seal(Session { options: U16::new(8), ..Session::default() }), "options 8"),
            (Frame::seal(Subscribe { mode: 3, ..Subscribe::default() }), "unknown mode 3 in"),
            (Frame::seal(Query { op: 77, ..query }), "unknown op 77 in"),
            (Frame::seal(Query { options: 16, ..query }), "unknown options 16 in"),
            (Frame::seal(Gap { reason: 8, ..Gap::default() }), "unknown reason 8 in"),
            (Frame::seal(Ended { status: 9, ..Ended::default() }), "unknown status 9 in"),
            (Frame::seal(NodeAnswer { status: 99, ..NodeAnswer::default() }), "status 99"),
            (definition(10, &padded("A")), "unknown decimals 10 in"),
            (definition(2, &padded("A*")), "no symbol"),
            (definition(2, &[0; 24]), "no symbol"),
            (Frame::seal(Gap { reason: 1, reserved: [1; 3], ..Gap::default() }), "reserved bits"),
        ] {
            let text = said(frame);
            assert!(text.contains(field) && text.len() <= 48, "{text}");
        }
    }
}
