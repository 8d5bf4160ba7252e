//! What the broker sends, made safe for the library that reads it.
//!
//! A producer may put bytes into the properties of a message that are not UTF-8, or tables nested a thousand deep. The
//! library gives up the whole connection over the first and overflows its stack over the second, and the same message
//! comes again. So such properties are taken off before it sees them; the body stays, and is judged like any other.

/// The deepest nesting let through; the broker's own `x-death` takes three.
const MAX_DEPTH: u32 = 16;
/// The largest frame believed: RabbitMQ's default is an eighth of it.
const MAX_FRAME: usize = 1024 * 1024;
/// Type, channel and size before a frame's payload.
const HEAD: usize = 7;
/// Class, weight and body size before a content header's properties.
const BEFORE_PROPERTIES: usize = 12;
const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;

/// Cuts a stream of bytes into frames and makes each of them safe.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    partial: Vec<u8>,
}

/// What arrives is not the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbage;

impl Sieve {
    /// Takes bytes as they arrive, and passes on the frames that are complete.
    pub(super) fn push(&mut self, bytes: &[u8], passed: &mut Vec<u8>) -> Result<(), Garbage> {
        self.partial.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(frame) = next_frame(&self.partial[start..])? {
            let length = frame.len();
            strain(&mut self.partial[start..start + length], passed);
            start += length;
        }
        self.partial.drain(..start);
        Ok(())
    }
}

/// The frame at the front, if it is complete. A broker of another protocol version answers with its own header instead.
fn next_frame(bytes: &[u8]) -> Result<Option<&[u8]>, Garbage> {
    if bytes.starts_with(b"AMQP") {
        return Ok(bytes.get(..8));
    }
    let Some(size) = bytes.get(3..HEAD).and_then(number) else { return Ok(None) };
    if size > MAX_FRAME {
        return Err(Garbage);
    }
    Ok(bytes.get(..HEAD + size + 1))
}

fn strain(frame: &mut [u8], passed: &mut Vec<u8>) {
    let properties = HEAD + BEFORE_PROPERTIES..frame.len() - 1;
    match frame[0] {
        CONTENT_HEADER if frame.get(properties.clone()).is_some_and(|bytes| !Reader(bytes).are_properties()) => {
            passed.extend_from_slice(&frame[..3]);
            passed.extend_from_slice(&[0, 0, 0, 14]);
            passed.extend_from_slice(&frame[HEAD..properties.start]);
            passed.extend_from_slice(&[0, 0, frame[properties.end]]);
            return;
        }
        METHOD => mend_texts(frame),
        _ => {}
    }
    passed.extend_from_slice(frame);
}

/// A producer also chooses the routing key, which arrives in another frame.
fn mend_texts(frame: &mut [u8]) {
    let end = frame.len() - 1;
    let method = frame.get(HEAD..HEAD + 4).map(|ids| (ids[0], ids[1], ids[2], ids[3]));
    // How many texts and fixed bytes come before exchange and routing key, in this order or the other.
    let skipped = |at: usize, texts: usize| (0..texts).try_fold(at, |at, _| text_end(frame, at));
    let start = HEAD + 4;
    let exchange = match method {
        // basic.deliver: consumer tag, delivery tag, redelivered.
        Some((0, 60, 0, 60)) => skipped(start, 1).map(|at| at + 9),
        // basic.return: reply code, reply text.
        Some((0, 60, 0, 50)) => skipped(start + 2, 1),
        // basic.get-ok: delivery tag, redelivered.
        Some((0, 60, 0, 71)) => Some(start + 9),
        _ => None,
    };
    let Some((key, key_end)) =
        exchange.and_then(|at| text_end(frame, at)).and_then(|at| Some((at, text_end(frame, at)?)))
    else {
        return;
    };
    if key_end <= end && std::str::from_utf8(&frame[key + 1..key_end]).is_err() {
        frame[key + 1..key_end].iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    }
}

/// Where the short text at `at` ends.
fn text_end(frame: &[u8], at: usize) -> Option<usize> {
    let end = at + 1 + usize::from(*frame.get(at)?);
    (end < frame.len()).then_some(end)
}

fn number(bytes: &[u8]) -> Option<usize> {
    bytes.try_into().ok().and_then(|bytes| usize::try_from(u32::from_be_bytes(bytes)).ok())
}

/// Reads properties as strictly as the library does, or more.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn are_properties(mut self) -> bool {
        self.properties().is_some() && self.0.is_empty()
    }

    fn properties(&mut self) -> Option<()> {
        let flags = self.take(2)?;
        let flags = u16::from_be_bytes([flags[0], flags[1]]);
        if flags & 0b11 != 0 {
            return None;
        }
        for bit in (2..16).rev().filter(|bit| flags & (1 << bit) != 0) {
            match bit {
                13 => self.table(0)?,
                12 | 11 => _ = self.take(1)?,
                6 => _ = self.take(8)?,
                _ => self.short_text()?,
            }
        }
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn short_text(&mut self) -> Option<()> {
        let length = usize::from(self.take(1)?[0]);
        std::str::from_utf8(self.take(length)?).ok().map(|_| ())
    }

    fn long(&mut self) -> Option<Self> {
        let length = number(self.take(4)?)?;
        self.take(length).map(Reader)
    }

    fn table(&mut self, depth: u32) -> Option<()> {
        let mut inside = self.long()?;
        while !inside.0.is_empty() {
            inside.short_text()?;
            inside.value(depth)?;
        }
        Some(())
    }

    fn array(&mut self, depth: u32) -> Option<()> {
        let mut inside = self.long()?;
        while !inside.0.is_empty() {
            inside.value(depth)?;
        }
        Some(())
    }

    fn value(&mut self, depth: u32) -> Option<()> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let fixed = match self.take(1)?[0] {
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'L' | b'l' | b'd' | b'T' => 8,
            b'S' | b'x' => return self.long().map(|_| ()),
            b'F' => return self.table(depth + 1),
            b'A' => return self.array(depth + 1),
            _ => return None,
        };
        self.take(fixed).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1], size.as_slice(), payload, &[0xCE]].concat()
    }

    fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
        let payload = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], flags.to_be_bytes().as_slice(), properties].concat();
        frame(CONTENT_HEADER, &payload)
    }

    fn short(text: &[u8]) -> Vec<u8> {
        [&[u8::try_from(text.len()).unwrap()], text].concat()
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        [u32::try_from(bytes.len()).unwrap().to_be_bytes().as_slice(), bytes].concat()
    }

    /// A table that holds a table that holds a table.
    fn nested(depth: usize) -> Vec<u8> {
        long(&(1..depth).fold(Vec::new(), |inside, _| [short(b"k"), b"F".to_vec(), long(&inside)].concat()))
    }

    /// However the bytes arrive, the same frames come out.
    fn check(sent: &[u8], expected: &[u8]) {
        for step in [1, 3, sent.len()] {
            let (mut sieve, mut passed) = (Sieve::default(), Vec::new());
            sent.chunks(step).for_each(|chunk| sieve.push(chunk, &mut passed).unwrap());
            assert_eq!(passed, expected, "in steps of {step}");
        }
    }

    const MESSAGE_ID: u16 = 1 << 7;
    const HEADERS: u16 = 1 << 13;

    #[test]
    fn what_is_well_formed_passes_untouched() {
        let values = [
            b"Vt\x01".as_slice(),
            b"b1",
            b"B1",
            b"s12",
            b"U12",
            b"u12",
            b"I1234",
            b"i1234",
            b"f1234",
            b"D12345",
            b"L12345678",
            b"l12345678",
            b"d12345678",
            b"T12345678",
            b"S\0\0\0\x02\xff\xfe",
            b"x\0\0\0\x01\xff",
            b"A\0\0\0\x03VVV",
        ];
        let mut table = Vec::new();
        // The first is two: a void has no bytes, so the boolean needs a key of its own.
        for value in
            values.iter().flat_map(|value| if value[0] == b'V' { vec![&value[..1], &value[1..]] } else { vec![*value] })
        {
            table.extend([short("schlüssel".as_bytes()), value.to_vec()].concat());
        }
        let sent = [
            frame(8, b""),
            header(0, b""),
            header(MESSAGE_ID, &short("grüße".as_bytes())),
            header(HEADERS | 1 << 12 | 1 << 6, &[long(&table), vec![2], vec![0; 8]].concat()),
            header(HEADERS, &nested(16)),
            frame(3, &[0xff; 9]),
            frame(
                METHOD,
                &[&[0, 60, 0, 60], short(b"tag").as_slice(), &[0; 9], &short(b"x"), &short(b"reset.a")].concat(),
            ),
        ]
        .concat();
        check(&sent, &sent);
        check(b"AMQP\0\0\x09\x01", b"AMQP\0\0\x09\x01");
    }

    #[test]
    fn properties_that_the_library_cannot_read_are_taken_off() {
        let bare = header(0, b"");
        check(&header(MESSAGE_ID, &short(b"gr\xfc\xdfe")), &bare);
        check(&header(MESSAGE_ID, b"\x09short"), &bare);
        check(&header(HEADERS, &nested(18)), &bare);
        check(&header(HEADERS, &nested(10_000)), &bare);
        check(&header(HEADERS, &long(&[short(b"\xff"), b"V".to_vec()].concat())), &bare);
        check(&header(HEADERS, &long(b"\x01k?")), &bare);
        check(&header(0b10, b""), &bare);
        check(&header(0, b"more"), &bare);
    }

    #[test]
    fn a_routing_key_that_is_no_text_becomes_one() {
        let frames = |key: &[u8]| {
            let deliver = [&[0, 60, 0, 60], short(b"tag").as_slice(), &[0; 9], &short(b"x"), &short(key)].concat();
            let returned = [&[0, 60, 0, 50, 1, 56], short(b"NO_ROUTE").as_slice(), &short(b"x"), &short(key)].concat();
            let got = [&[0, 60, 0, 71], [0; 9].as_slice(), &short(b"x"), &short(key), &[0; 4]].concat();
            [deliver, returned, got].map(|payload| frame(METHOD, &payload)).concat()
        };
        check(&frames(b"reset.\xff\xfe"), &frames(b"reset.??"));
        check(&frame(METHOD, &[0, 60, 0, 60, 200]), &frame(METHOD, &[0, 60, 0, 60, 200]));
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        assert_eq!(Sieve::default().push(b"HTTP/1.1 400 Bad Request", &mut Vec::new()), Err(Garbage));
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let (mut sieve, mut passed) = (Sieve::default(), Vec::new());
            _ = sieve.push(&frame(METHOD, &[&[0, 60, 0, 60], bytes.as_slice()].concat()), &mut passed);
            _ = sieve.push(&frame(CONTENT_HEADER, &bytes), &mut passed);
            _ = sieve.push(&header(HEADERS, &bytes), &mut passed);
            _ = sieve.push(&bytes, &mut passed);
        }
    }
}
